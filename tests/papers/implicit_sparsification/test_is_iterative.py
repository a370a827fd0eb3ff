"""Iterative pruning: exact and nested, zeros that stay, both rewinds, what is refused, divergence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from repro.learn import Ensemble, TrainingDivergedError, evaluate, perceptron
from repro.papers.implicit_sparsification import iterative
from repro.papers.implicit_sparsification.factors import effective_weights
from repro.papers.implicit_sparsification.fitting import Run, run
from repro.papers.implicit_sparsification.iterative import REWINDS, iterative_pruning
from repro.papers.implicit_sparsification.methods import METHODS
from repro.papers.implicit_sparsification.settings import SETTINGS

TINY = replace(
    SETTINGS["digits"], build=partial(perceptron, (64, 12, 10)), parts=(150, 50, 60), batch_size=50
)
N_WEIGHTS = 64 * 12 + 12 * 10
SEEDS = [2, 6]
PER_EPOCH = 3

Weights = dict[str, Tensor]


class Watched:
    """``run``, noting the weights of every cycle: before, after each step and at the end."""

    def __init__(self) -> None:
        self.before: list[Weights] = []
        self.steps: list[list[Weights]] = []
        self.states: list[list[dict[str, Tensor]]] = []
        self.seeds: list[list[int]] = []
        self.ensemble: Ensemble | None = None

    def __call__(
        self,
        ensemble: Ensemble,
        *arguments: Any,
        seeds: Sequence[int],
        after_step: Sequence[Any],
        **options: Any,
    ) -> Run:
        self.ensemble = ensemble
        self.before.append(self.weights(ensemble))
        self.steps.append([])
        self.states.append([])
        self.seeds.append(list(seeds))

        def note(model: Ensemble, step: int) -> None:
            self.steps[-1].append(self.weights(model))
            self.states[-1].append(model.state_dict())

        return run(ensemble, *arguments, seeds=seeds, after_step=[*after_step, note], **options)

    @staticmethod
    def weights(model: Ensemble) -> Weights:
        found = effective_weights(model.parameters, model.member(0))
        return {name: weight.detach().clone() for name, weight in found.items()}

    def zeros(self, cycle: int) -> Tensor:
        """Which weights are 0 at the start of a cycle, ``(S, n)``."""
        return flat(self.before[cycle]) == 0


def flat(weights: Weights) -> Tensor:
    return torch.cat([weight.flatten(1) for weight in weights.values()], dim=1)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    watch = Watched()
    monkeypatch.setattr(iterative, "run", watch)
    return watch


def pruned(how: str, strength: float = 0.0, **options: Any) -> pd.DataFrame:
    told = {"seeds": SEEDS, "n_cycles": 3, "n_epochs": 3, "keep": 0.5, "progress": False} | options
    return iterative_pruning(told.pop("where", TINY), how, strength, **told)


def left(n_cycles: int, keep: float) -> list[int]:
    """How many weights each cycle has."""
    counts = [N_WEIGHTS]
    for _ in range(n_cycles):
        counts.append(round(keep * counts[-1]))
    return counts


@pytest.mark.parametrize("rewind", REWINDS)
@pytest.mark.parametrize(
    ("how", "strength"), [("x", 0.0), ("l1_x", 1e-2), ("mw", 0.0), ("pilot", 2e-2), ("spred", 1e-2)]
)
def test_pruning_is_exact_nested_and_holds_to_the_end(
    watched: Watched, rewind: str, how: str, strength: float
) -> None:
    keep = 0.7
    table = pruned(how, strength, rewind=rewind, keep=keep, rewind_epoch=1)
    counts = left(3, keep)
    np.testing.assert_allclose(
        table.groupby("seed")["sparsity"].apply(list)[SEEDS[0]],
        [1 - n / N_WEIGHTS for n in counts],
        atol=1e-12,
    )
    np.testing.assert_allclose([1 - n / N_WEIGHTS for n in counts], 1 - keep ** np.arange(4), atol=1e-3)
    assert table["sparsity"].nunique() == 4
    earlier = torch.zeros(len(SEEDS), N_WEIGHTS, dtype=torch.bool)
    for cycle in range(4):
        zeros = watched.zeros(cycle)
        assert zeros.sum(dim=1).tolist() == [N_WEIGHTS - counts[cycle]] * len(SEEDS)
        assert (zeros >= earlier).all()
        for weights in watched.steps[cycle]:
            assert (flat(weights)[zeros] == 0).all()
        earlier = zeros


@pytest.mark.parametrize("how", ["x", "pilot"])
def test_the_smallest_of_the_trained_weights_go(watched: Watched, how: str) -> None:
    pruned(how, METHODS[how].strengths[0], n_cycles=2, keep=0.6)
    for cycle in range(2):
        trained = flat(watched.steps[cycle][-1]).abs()
        zeros = watched.zeros(cycle + 1)
        for member in range(len(SEEDS)):
            n_left = left(2, 0.6)[cycle + 1]
            assert trained[member][zeros[member]].max() <= trained[member][~zeros[member]].min()
            assert (~zeros[member]).sum() == n_left
    assert not torch.equal(watched.zeros(1)[0], watched.zeros(1)[1])


@pytest.mark.parametrize("how", ["x", "mw"])
def test_both_factors_of_a_pruned_weight_are_zero(watched: Watched, how: str) -> None:
    pruned(how, n_cycles=1)
    zeros = {name: weight == 0 for name, weight in watched.before[1].items()}
    for state in watched.states[1]:
        for name, tensor in state.items():
            if not name.endswith("bias"):
                layer = f"{name.split('.')[0]}.weight"
                assert (tensor[zeros[layer]] == 0).all()
                assert (tensor[~zeros[layer]] != 0).all()


@pytest.mark.parametrize("how", ["x", "pilot"])
@pytest.mark.parametrize("rewind_epoch", [1, 3])
def test_weight_rewinding_goes_back_to_the_weights_of_the_epoch(
    watched: Watched, how: str, rewind_epoch: int
) -> None:
    pruned(how, METHODS[how].strengths[0], rewind="weights", rewind_epoch=rewind_epoch)
    early = flat(watched.steps[0][rewind_epoch * PER_EPOCH - 1])
    for cycle in (1, 2, 3):
        start, zeros = flat(watched.before[cycle]), watched.zeros(cycle)
        assert torch.equal(start[~zeros], early[~zeros])
        if rewind_epoch < 3:
            assert not torch.equal(start[~zeros], flat(watched.steps[cycle - 1][-1])[~zeros])


@pytest.mark.parametrize("how", ["x", "pilot"])
def test_rate_rewinding_goes_on_from_the_weights_as_they_are(watched: Watched, how: str) -> None:
    pruned(how, METHODS[how].strengths[0], rewind="rates")
    for cycle in (1, 2, 3):
        start, zeros = flat(watched.before[cycle]), watched.zeros(cycle)
        assert torch.equal(start[~zeros], flat(watched.steps[cycle - 1][-1])[~zeros])


def test_biases_are_rewound_too(watched: Watched) -> None:
    pruned("x", rewind="weights", rewind_epoch=1, n_cycles=1)
    early = watched.states[0][PER_EPOCH - 1]["1.bias"]
    first_step = watched.states[1][0]["1.bias"]
    assert (first_step - early).norm() < 0.5 * (watched.states[0][-1]["1.bias"] - early).norm()


@pytest.mark.parametrize("rewind", REWINDS)
def test_weights_that_training_brings_to_zero_do_not_bring_back_those_pruned_before(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, rewind: str
) -> None:
    """The second half of the weights ends at 0 in cycle 0 and is pruned, the first half in cycle 1."""
    halves = iter([slice(N_WEIGHTS // 2, None), slice(0, N_WEIGHTS // 2), slice(0, 0)])

    def zeroed(ensemble: Ensemble, *arguments: Any, **options: Any) -> Run:
        done = watched(ensemble, *arguments, **options)
        gone = torch.zeros(N_WEIGHTS, dtype=torch.bool)
        gone[next(halves)] = True
        layers = [ensemble.parameters[name] for name in ("1.weight", "3.weight")]
        with torch.no_grad():
            for layer, part in zip(layers, gone.split([w[0].numel() for w in layers]), strict=True):
                layer.masked_fill_(part.view(layer[0].shape), 0)
        return done

    monkeypatch.setattr(iterative, "run", zeroed)
    pruned("x", rewind=rewind, rewind_epoch=1, n_cycles=2)
    assert watched.zeros(1)[:, N_WEIGHTS // 2 :].all()
    assert (flat(watched.steps[2][-1])[:, N_WEIGHTS // 2 :] == 0).all()
    if rewind == "weights":
        assert (~watched.zeros(2)).sum(dim=1).tolist() == [N_WEIGHTS // 4] * len(SEEDS)


def test_accuracies_are_those_at_the_end_of_each_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[str, list[float]]] = []

    def ended(ensemble: Ensemble, datasets: Any, *arguments: Any, **options: Any) -> Run:
        done = run(ensemble, datasets, *arguments, **options)
        for i, data in enumerate(datasets):
            network = ensemble.member(i)
            found.append(
                [
                    evaluate(network, data.x_validation, data.y_validation)[1].item(),
                    evaluate(network, data.x_test, data.y_test)[1].item(),
                ]
            )
        return done

    monkeypatch.setattr(iterative, "run", ended)
    table = pruned("pilot", 1e-3)
    np.testing.assert_allclose(table[["validation_accuracy", "test_accuracy"]], found, atol=1e-12)
    assert list(table["cycle"]) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert list(table["seed"]) == SEEDS * 4
    assert set(table.columns) == {
        "method", "rewind", "strength", "seed", "cycle", "sparsity", "diverged", "validation_accuracy",
        "test_accuracy",
    }  # fmt: skip
    assert table["test_accuracy"][:2].min() > 0.3


def test_the_first_cycle_is_a_fit_and_every_seed_is_as_alone() -> None:
    both, alone = pruned("pilot", 1e-3), pruned("pilot", 1e-3, seeds=SEEDS[1:])
    own = both[both["seed"] == SEEDS[1]].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, alone, atol=0.02)
    pd.testing.assert_frame_equal(own, pruned("pilot", 1e-3, seeds=SEEDS[1:]), atol=0.02)


def test_every_cycle_has_an_order_of_batches_of_its_own(watched: Watched) -> None:
    pruned("x")
    orders = [seed for seeds in watched.seeds for seed in seeds]
    assert len(set(orders)) == len(orders)


def test_pruning_all_weights_leaves_biases_alone(watched: Watched) -> None:
    table = pruned("mw", n_cycles=2, keep=1e-4)
    assert table["sparsity"].tolist() == [0, 0, 1, 1, 1, 1]
    assert watched.zeros(1).all()
    assert table["test_accuracy"][2:].between(0.05, 0.2).all()


# ---- divergence


def _nan(member: int, at_cycle: int) -> Any:
    """``run`` that spoils one network before a cycle."""
    cycle = iter(range(100))

    def spoiled(ensemble: Ensemble, *arguments: Any, **options: Any) -> Run:
        if next(cycle) == at_cycle:
            with torch.no_grad():
                ensemble.parameters["3.bias"][member].fill_(float("nan"))
        return run(ensemble, *arguments, **options)

    return spoiled


@pytest.mark.parametrize("rewind", REWINDS)
@pytest.mark.parametrize("how", ["x", "pilot"])
def test_a_network_that_diverges_is_labelled_from_there_on_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, rewind: str, how: str
) -> None:
    healthy = pruned(how, 1e-3, rewind=rewind, rewind_epoch=1)
    monkeypatch.setattr(iterative, "run", _nan(0, at_cycle=1))
    table = pruned(how, 1e-3, rewind=rewind, rewind_epoch=1)
    assert table.loc[table["seed"] == SEEDS[0], "diverged"].tolist() == [False, True, True, True]
    assert not table.loc[table["seed"] == SEEDS[1], "diverged"].any()
    same = table["seed"] == SEEDS[1]
    pd.testing.assert_frame_equal(table[same], healthy[same], atol=0.02)
    assert table["sparsity"].tolist() == healthy["sparsity"].tolist()


def test_all_networks_diverging_is_an_error() -> None:
    with pytest.raises(TrainingDivergedError):
        pruned("mw", where=replace(TINY, factor_rate=1e4))


# ---- what is refused


@pytest.mark.parametrize("how", ["powerprop", "str", "continuous", "continuous_original"])
def test_forms_in_which_zeros_do_not_stay_are_refused(how: str) -> None:
    with pytest.raises(ValueError, match="works for plain weights and for m \\* w"):
        pruned(how, METHODS[how].strengths[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewind": "weight"}, "rewind is 'rates' or 'weights'; got 'weight'"),
        ({"keep": 0.0}, r"between 0 and 1; got 0\.0"),
        ({"keep": 1.0}, r"between 0 and 1; got 1\.0"),
        ({"keep": float("nan")}, "between 0 and 1; got nan"),
        ({"keep": 60}, "between 0 and 1; got 60"),
        ({"n_cycles": 0}, "n_cycles must be a whole number, 1 or above; got 0"),
        ({"n_cycles": 2.5}, r"n_cycles must be a whole number, 1 or above; got 2\.5"),
        ({"n_epochs": 0}, "n_epochs must be a whole number, 1 or above; got 0"),
        ({"rewind": "weights", "rewind_epoch": 0}, "rewind_epoch must lie in 1 to 3, .*; got 0"),
        ({"rewind": "weights", "rewind_epoch": 4}, "rewind_epoch must lie in 1 to 3, .*; got 4"),
        ({"rewind": "weights", "rewind_epoch": 1.5}, r"rewind_epoch must lie in 1 to 3, .*; got 1\.5"),
        ({"seeds": []}, r"all different; got \[\]"),
        ({"seeds": [1, 1]}, r"all different; got \[1, 1\]"),
        ({"how": "pilott"}, "unknown method 'pilott'; did you mean 'pilot'"),
        ({"where": "digit"}, "unknown setting 'digit'; did you mean 'digits'"),
        ({"strength": -1.0}, r"strength must be a number, 0 or above; got -1\.0"),
        ({"strength": float("nan")}, "strength must be a number, 0 or above; got nan"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_before_any_training(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(iterative, "run", never)
    with pytest.raises(ValueError, match=message):
        pruned(**({"how": "mw"} | options))


def test_a_rewind_epoch_says_nothing_without_weight_rewinding() -> None:
    assert len(pruned("x", rewind="rates", rewind_epoch=99, n_cycles=1)) == 4
