"""Trade-off curves: measured on copies, paired by seed."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from repro.prune import (
    magnitude,
    paired_difference,
    prune_and_measure,
    random,
    summarize,
    unit_norms,
)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4))


def density(model: nn.Module) -> float:
    """An 'accuracy' that is known: the fraction of non-zero weights."""
    weights = torch.cat([model[0].weight.flatten(), model[2].weight.flatten()])
    return float(weights.ne(0).double().mean())


def test_a_curve_measures_what_was_pruned_and_leaves_the_network_alone():
    model = network()
    before = copy.deepcopy(model.state_dict())
    frame = prune_and_measure(
        model, magnitude(model), [0, 0.25, 0.9, 1], density, method="magnitude", seed=3, input_shape=(6,)
    )
    assert list(frame.columns) == ["method", "seed", "sparsity", "accuracy", "n_parameters", "multiply_adds"]
    assert frame["accuracy"].tolist() == [1.0, 0.75, 0.1, 0.0]
    assert frame["n_parameters"].tolist() == [114, 89, 24, 14]
    assert frame["multiply_adds"].tolist() == [100, 75, 10, 0]
    assert set(frame["method"]) == {"magnitude"}
    assert set(frame["seed"]) == {3}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_without_an_input_shape_the_multiply_adds_are_missing():
    model = network()
    frame = prune_and_measure(model, magnitude(model), [0.5], density, method="m", seed=0)
    assert frame["multiply_adds"].isna().all()


def test_layer_scope_and_units():
    model = network()
    frame = prune_and_measure(model, magnitude(model), [0.5], density, method="m", seed=0, scope="layer")
    assert frame["accuracy"].tolist() == [0.5]
    units = prune_and_measure(
        model, unit_norms(model, ["0.weight"]), [0, 0.2], density, method="lengths", seed=0, scope="units"
    )
    assert units["accuracy"].tolist() == [1.0, 0.88]  # 2 of 10 rows of 6 weights
    assert units["n_parameters"].tolist() == [114, 100]


def retrain(model: nn.Module, mask, *, hold: bool) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    for step in range(5):
        optimizer.zero_grad()
        (model(x) - 1).square().mean().backward()
        optimizer.step()
        if hold:
            mask(model, step)


def test_retraining_happens_before_measuring_and_must_hold_the_mask():
    model = network()
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))

    def fit(pruned: nn.Module) -> float:
        return -float((pruned(x) - 1).square().mean().detach())

    def curve(how=None) -> list[float]:
        frame = prune_and_measure(model, magnitude(model), [0.5], fit, method="m", seed=0, retrain=how)
        return frame["accuracy"].tolist()

    assert curve(lambda pruned, mask: retrain(pruned, mask, hold=True))[0] > curve()[0]
    with pytest.raises(ValueError, match="brought pruned weights back"):
        curve(lambda pruned, mask: retrain(pruned, mask, hold=False))


def test_sparsities_that_differ_by_rounding_alone_are_one():
    model = network()
    a = prune_and_measure(model, magnitude(model), [0.1 + 0.2], density, method="a", seed=0)
    b = prune_and_measure(model, magnitude(model), [0.3], density, method="b", seed=0)
    assert paired_difference(pd.concat([a, b]), "a", "b")["mean"].tolist() == [0.0]


def test_summary_and_paired_difference_agree_with_scipy():
    generator = np.random.default_rng(0)
    rows = [
        (method, seed, sparsity, generator.normal() + 10 * seed, 1, 1)
        for method in ("a", "b")
        for seed in range(5)
        for sparsity in (0.5, 0.9)
    ]
    frame = pd.DataFrame(
        rows, columns=["method", "seed", "sparsity", "accuracy", "n_parameters", "multiply_adds"]
    )
    summary = summarize(frame)
    assert list(summary.columns) == ["method", "sparsity", "mean", "low", "high", "n_seeds"]
    assert len(summary) == 4
    shuffled = frame.sample(frac=1, random_state=1)
    difference = paired_difference(shuffled, "a", "b").sort_values("sparsity").reset_index()
    for i, sparsity in enumerate((0.5, 0.9)):
        at = frame[frame["sparsity"] == sparsity].sort_values("seed")
        a, b = (at.loc[at["method"] == m, "accuracy"].to_numpy() for m in "ab")
        row = summary[(summary["method"] == "a") & (summary["sparsity"] == sparsity)].iloc[0]
        interval = stats.ttest_1samp(a, 0).confidence_interval()
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
        paired = stats.ttest_rel(a, b).confidence_interval()
        assert (difference["low"][i], difference["high"][i]) == pytest.approx((paired.low, paired.high))
        assert difference["n_seeds"][i] == 5
        # the seeds' common part cancels
        assert difference["high"][i] - difference["low"][i] < (row["high"] - row["low"]) / 3


def test_control_two_random_prunings_do_not_differ_and_magnitude_does():
    """The order of scores that is known must come out, and no order where there is none."""
    x = torch.randn(128, 6, generator=torch.Generator().manual_seed(1))
    frames = []
    for seed in range(8):
        model = network(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(parameter.abs() * 10)  # heavier tails: some weights matter, most do not
        target = model(x).detach()

        def fit(pruned: nn.Module, target: torch.Tensor = target) -> float:
            return float(1 - (pruned(x) - target).square().mean().detach() / target.square().mean())

        for method, scores in (
            ("magnitude", magnitude(model)),
            ("random", random(model, generator=torch.Generator().manual_seed(seed))),
            ("random again", random(model, generator=torch.Generator().manual_seed(100 + seed))),
        ):
            frames.append(prune_and_measure(model, scores, [0.3], fit, method=method, seed=seed))
    frame = pd.concat(frames)
    better = paired_difference(frame, "magnitude", "random").iloc[0]
    nothing = paired_difference(frame, "random again", "random").iloc[0]
    assert better["low"] > 0
    assert nothing["low"] < 0 < nothing["high"]


def test_one_seed_has_no_finite_interval():
    model = network()
    row = summarize(prune_and_measure(model, magnitude(model), [0.5], density, method="m", seed=0)).iloc[0]
    assert (row["mean"], row["low"], row["high"], row["n_seeds"]) == (0.5, -np.inf, np.inf, 1)


def test_bad_curves():
    model = network()
    calls = []

    def evaluate(pruned: nn.Module) -> float:
        calls.append(pruned)
        return float("nan")

    def curve(scores=None, sparsities=(0.5,), **keywords):
        return prune_and_measure(
            model, magnitude(model) if scores is None else scores, sparsities, evaluate,
            method="m", seed=0, **keywords,
        )  # fmt: skip

    with pytest.raises(ValueError, match=r"got 1\.5"):
        curve(sparsities=[0.5, 1.5])
    with pytest.raises(ValueError, match=r"did you mean '0\.weight'"):
        curve(scores={"0.weights": torch.ones(2)})
    with pytest.raises(ValueError, match="'global', 'layer' or 'units', got 'unit'"):
        curve(scope="unit")
    with pytest.raises(ValueError, match="got 2 and 0"):
        curve(sparsities=[])
    assert not calls  # all found before anything was measured
    with pytest.raises(ValueError, match=r"got nan at sparsity 0\.5"):
        curve()


def test_bad_frames():
    model = network()
    frame = prune_and_measure(model, magnitude(model), [0.5, 0.9], density, method="magnitude", seed=0)
    other = frame.assign(method="random")
    with pytest.raises(ValueError, match="lacks a column: unknown column 'acuracy'; did you mean 'accuracy'"):
        summarize(frame, value="acuracy")
    with pytest.raises(ValueError, match=r"'magnitude' has seed 0 twice at sparsity 0\.5"):
        summarize(pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="unknown method 'radnom'; did you mean 'random'"):
        paired_difference(pd.concat([frame, other]), "magnitude", "radnom")
    with pytest.raises(ValueError, match=r"1 stand alone, the first is seed 0 at sparsity 0\.9"):
        paired_difference(pd.concat([frame, other.iloc[:1]]), "magnitude", "random")
