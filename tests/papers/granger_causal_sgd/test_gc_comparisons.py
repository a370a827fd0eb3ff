"""Accuracy against sparsity: equal to training one by one, the test part untouched, differences by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch

from repro.learn import TrainingDivergedError, evaluate, perceptron, train
from repro.papers.granger_causal_sgd.arms import arm_mask
from repro.papers.granger_causal_sgd.comparisons import Tuned, accuracy_runs, paired, tuned_arms
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.papers.granger_causal_sgd.trace import Trace, log_trace
from repro.prune import Mask

IRIS = Setting(
    "iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, tune_epochs=3, rate=0.02, batch_size=30
)  # fmt: skip
SEEDS = [0, 3]
ARMS = ["causal", "random"]
SPARSITIES = [0.5, 0.8]
COLUMNS = ["seed", "arm", "sparsity", "train_loss", "validation_accuracy", "test_accuracy", "collapsed"]


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


@pytest.fixture(scope="module")
def trace(begun: Start) -> Trace:
    return log_trace(
        begun.ensemble, begun.datasets, learning_rate=0.01, n_epochs=3, batch_size=10, seeds=list(begun.seeds)
    )


@pytest.fixture(scope="module")
def tuned(begun: Start, trace: Trace) -> Tuned:
    return tuned_arms(begun, trace, ARMS, SPARSITIES, max_networks=4)


def test_one_row_a_network(tuned: Tuned) -> None:
    expected = [(seed, "dense", 0.0) for seed in SEEDS]
    expected += [(seed, arm, s) for arm in ARMS for s in SPARSITIES for seed in SEEDS]
    assert list(tuned.frame.columns) == COLUMNS
    assert list(tuned.frame[COLUMNS[:3]].itertuples(index=False, name=None)) == expected


def test_networks_are_those_trained_alone(tuned: Tuned, begun: Start, trace: Trace) -> None:
    members = [member for ensemble in tuned.ensembles for member in ensemble]
    for row, together in zip(tuned.frame.itertuples(), members, strict=True):
        i = SEEDS.index(row.seed)
        dataset, alone = begun.datasets[i], begun.ensemble.member(i)
        stacked = begun.dense() if row.arm == "dense" else arm_mask(row.arm, trace, begun, row.sparsity)
        mask = Mask({name: stacked[name][i] for name in stacked})
        mask.apply(alone)
        train(
            alone,
            dataset,
            optimizer=IRIS.adam(),
            n_epochs=3,
            batch_size=30,
            after_step=[mask],
            seed=row.seed,
            progress=False,
        )
        assert mask.holds(together)
        for p, q in zip(alone.parameters(), together.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=1e-4, rtol=0)
        loss, _ = evaluate(together, dataset.x_train, dataset.y_train)
        _, accuracy = evaluate(together, dataset.x_test, dataset.y_test)
        _, validation = evaluate(together, dataset.x_validation, dataset.y_validation)
        assert row.train_loss == pytest.approx(float(loss), rel=1e-4)
        assert (row.test_accuracy, row.validation_accuracy) == (float(accuracy), float(validation))


def test_masks_belong_to_the_networks(tuned: Tuned) -> None:
    for mask, ensemble in zip(tuned.masks, tuned.ensembles, strict=True):
        assert mask.holds(ensemble)
    kept = torch.cat([torch.cat([k.flatten(1) for k in mask.values()], dim=1) for mask in tuned.masks])
    assert (~kept).sum(dim=1).tolist() == [int(s * 56) for s in tuned.frame["sparsity"]]


def test_biases_are_trained_in_all_networks(tuned: Tuned, begun: Start) -> None:
    for ensemble in tuned.ensembles:
        before = begun.copy(len(ensemble) // len(SEEDS)).parameters["3.bias"]
        assert bool((ensemble.parameters["3.bias"] != before).all())


def test_how_many_train_together_does_not_matter(tuned: Tuned, begun: Start, trace: Trace) -> None:
    before = begun.ensemble.state_dict()
    at_once = accuracy_runs(begun, trace, ARMS, SPARSITIES)
    pd.testing.assert_frame_equal(at_once, tuned.frame, rtol=1e-4)
    assert all(torch.equal(before[name], tensor) for name, tensor in begun.ensemble.state_dict().items())


def test_the_test_part_decides_nothing(tuned: Tuned, begun: Start, trace: Trace) -> None:
    relabelled = tuple(
        replace(d, y_test=2 - d.y_test, y_validation=2 - d.y_validation) for d in begun.datasets
    )
    other = tuned_arms(replace(begun, datasets=relabelled), trace, ARMS, SPARSITIES, max_networks=4)
    for here, there in zip(tuned.ensembles, other.ensembles, strict=True):
        assert all(torch.equal(p, there.parameters[name]) for name, p in here.parameters.items())
    assert not tuned.frame["test_accuracy"].equals(other.frame["test_accuracy"])


def test_a_collapsed_network_tells_nothing_but_the_commonest_class(begun: Start, trace: Trace) -> None:
    steps = trace.steps.clone()
    steps[:, :, trace.layers["1.weight"]] *= 1e-6
    runs = accuracy_runs(begun, replace(trace, steps=steps), ["causal"], [0.7], tune_epochs=1)
    pruned = runs[runs["arm"] == "causal"]
    assert pruned["collapsed"].tolist() == [1, 1]
    for row in pruned.itertuples():
        y = begun.datasets[SEEDS.index(row.seed)].y_test
        assert row.test_accuracy in {float((y == k).double().mean()) for k in range(3)}


def test_divergence_names_the_network(begun: Start, trace: Trace) -> None:
    first, second = begun.datasets
    broken = replace(begun, datasets=(first, replace(second, x_train=second.x_train * float("inf"))))
    with pytest.raises(TrainingDivergedError, match=r"arm 'dense' at sparsity 0\.0, seed 3"):
        accuracy_runs(broken, trace, ["energy"], [0.5])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"tune_epochs": 0}, "tune_epochs must be a whole number, 1 or above; got 0"),
        ({"tune_epochs": 1.5}, "got 1.5"),
        ({"max_networks": 1}, "max_networks must be a whole number, 2 or above; got 1"),
        ({"sparsities": [1.0]}, "removes all 56 weights"),
    ],
)
def test_bad_arguments(wrong: dict[str, object], told: str, begun: Start, trace: Trace) -> None:
    with pytest.raises(ValueError, match=told):
        accuracy_runs(begun, trace, **({"arms": ["energy"], "sparsities": [0.5]} | wrong))  # type: ignore[arg-type]


FRAME = pd.DataFrame(
    [
        (0, "dense", 0.0, 0.9),
        (1, "dense", 0.0, 0.8),
        (0, "a", 0.5, 0.95),
        (1, "a", 0.5, 0.7),
        (0, "a", 0.9, 0.6),
        (1, "a", 0.9, 0.5),
        # the same keys in another order
        (1, "b", 0.9, 0.4),
        (0, "b", 0.9, 0.7),
        (1, "b", 0.5, 0.9),
        (0, "b", 0.5, 0.9),
    ],
    columns=["seed", "arm", "sparsity", "test_accuracy"],
)


def _differences(arm: str, other: str) -> dict[tuple[int, float], float]:
    found = paired(FRAME, arm, other)
    return {(row.seed, row.sparsity): pytest.approx(row.difference) for row in found.itertuples()}


def test_differences_are_taken_seed_by_seed_in_percentage_points() -> None:
    assert _differences("a", "b") == {(0, 0.5): 5, (1, 0.5): -20, (0, 0.9): -10, (1, 0.9): 10}


def test_dense_is_compared_with_every_sparsity() -> None:
    expected = {(0, 0.5): 5.0, (1, 0.5): -10.0, (0, 0.9): -30.0, (1, 0.9): -30.0}
    assert _differences("a", "dense") == expected
    assert _differences("dense", "a") == {key: -value for key, value in expected.items()}


def test_pairs_that_lack_a_partner_are_refused() -> None:
    with pytest.raises(ValueError, match="must share seeds and sparsities"):
        paired(FRAME.drop(index=9), "a", "b")
    with pytest.raises(ValueError, match="must share seeds and sparsities"):
        paired(FRAME.drop(index=0), "a", "dense")
    with pytest.raises(ValueError, match="arm 'a' has a seed twice"):
        paired(pd.concat([FRAME, FRAME.iloc[[2]]]), "a", "b")
    with pytest.raises(ValueError, match="of arm 'c'; arms are dense, a, b"):
        paired(FRAME, "c", "b")
    with pytest.raises(ValueError, match="no 'accuracy'"):
        paired(FRAME, "a", "b", value="accuracy")
