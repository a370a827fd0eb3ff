"""Trade-off curves: measured on copies, paired by seed."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from repro.prune import magnitude, paired_difference, prune_and_measure, random, select, summarize


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 4))


def density(model):
    """An 'accuracy' that is known: the fraction of non-zero weights."""
    weights = torch.cat([model[0].weight.flatten(), model[2].weight.flatten()])
    return float(weights.ne(0).double().mean())


def curve(model, sparsities, evaluate=density, method="m", seed=0, scores=magnitude, retrain=None):
    masks = {p: select(scores(model), sparsity=p) for p in sparsities}
    return prune_and_measure(model, masks, evaluate, (6,), method=method, seed=seed, retrain=retrain)


def test_a_curve_measures_what_was_pruned_and_leaves_the_network_alone():
    model = network()
    before = copy.deepcopy(model.state_dict())
    frame = curve(model, [0, 0.25, 0.9, 1], method="magnitude", seed=3)
    assert list(frame.columns) == ["method", "seed", "sparsity", "accuracy", "n_parameters", "multiply_adds"]
    assert frame["accuracy"].tolist() == [1.0, 0.75, 0.1, 0.0]
    assert frame["n_parameters"].tolist() == [114, 89, 24, 14]
    assert frame["multiply_adds"].tolist() == [100, 75, 10, 0]
    assert frame[["method", "seed"]].drop_duplicates().to_numpy().tolist() == [["magnitude", 3]]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("hold", [True, False])
def test_retraining_happens_before_measuring_and_must_hold_the_mask(hold):
    x = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))

    def fit(pruned):
        return -float((pruned(x) - 1).square().mean().detach())

    def retrain(pruned, mask):
        optimizer = torch.optim.SGD(pruned.parameters(), lr=0.1, momentum=0.9)
        for step in range(5):
            optimizer.zero_grad()
            (pruned(x) - 1).square().mean().backward()
            optimizer.step()
            if hold:
                mask(pruned, step)

    if hold:
        retrained = curve(network(), [0.5], fit, retrain=retrain)["accuracy"][0]
        assert retrained > curve(network(), [0.5], fit)["accuracy"][0]
    else:
        with pytest.raises(ValueError, match="brought pruned weights back"):
            curve(network(), [0.5], fit, retrain=retrain)


def test_summary_and_paired_difference_agree_with_scipy():
    generator = np.random.default_rng(0)
    rows = [
        (method, seed, sparsity, generator.normal() + 10 * seed)
        for method in ("a", "b")
        for seed in range(5)
        for sparsity in (0.5, 0.9)
    ]
    frame = pd.DataFrame(rows, columns=["method", "seed", "sparsity", "accuracy"])
    summary = summarize(frame)
    assert list(summary.columns) == ["method", "sparsity", "mean", "low", "high", "n_seeds"]
    assert len(summary) == 4
    difference = paired_difference(frame.sample(frac=1, random_state=1), "a", "b").set_index("sparsity")
    for sparsity in (0.5, 0.9):
        at = frame[frame["sparsity"] == sparsity].sort_values("seed")
        a, b = (at.loc[at["method"] == m, "accuracy"].to_numpy() for m in "ab")
        row = summary[(summary["method"] == "a") & (summary["sparsity"] == sparsity)].iloc[0]
        interval = stats.ttest_1samp(a, 0).confidence_interval()
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
        paired, found = stats.ttest_rel(a, b).confidence_interval(), difference.loc[sparsity]
        assert (found["low"], found["high"], found["n_seeds"]) == pytest.approx((paired.low, paired.high, 5))
        # the seeds' common part cancels
        assert found["high"] - found["low"] < (row["high"] - row["low"]) / 3


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

        def fit(pruned, target=target):
            return float(1 - (pruned(x) - target).square().mean().detach() / target.square().mean())

        for method, draw in (("magnitude", None), ("random", seed), ("random again", 100 + seed)):
            generator = torch.Generator().manual_seed(draw or 0)
            scores = magnitude if draw is None else lambda m, g=generator: random(m, g)
            frames.append(curve(model, [0.3], fit, method, seed, scores))
    frame = pd.concat(frames)
    better = paired_difference(frame, "magnitude", "random").iloc[0]
    nothing = paired_difference(frame, "random again", "random").iloc[0]
    assert better["low"] > 0
    assert nothing["low"] < 0 < nothing["high"]


def test_sparsities_that_differ_by_rounding_alone_are_one_and_one_seed_has_no_finite_interval():
    frame = pd.concat([curve(network(), [0.1 + 0.2], method="a"), curve(network(), [0.3], method="b")])
    row = paired_difference(frame, "a", "b").iloc[0]
    assert (row["mean"], row["low"], row["high"], row["n_seeds"]) == (0.0, -np.inf, np.inf, 1)


def test_frames_that_would_mislead():
    frame = curve(network(), [0.5, 0.9], method="magnitude")
    other = frame.assign(method="random")
    with pytest.raises(ValueError, match="2 rows repeat method, seed and sparsity"):
        summarize(pd.concat([frame, frame]))
    with pytest.raises(ValueError, match="1 stand alone"):
        paired_difference(pd.concat([frame, other.iloc[:1]]), "magnitude", "random")
