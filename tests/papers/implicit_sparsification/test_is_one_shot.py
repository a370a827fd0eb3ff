"""One-shot pruning: exact numbers against a slow sort, the choice on validation data, sign flips by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import floor

import numpy as np
import pandas as pd
import pytest
import torch

from repro.learn import Ensemble, evaluate, perceptron
from repro.papers.implicit_sparsification import one_shot
from repro.papers.implicit_sparsification.fitting import Fit, fit
from repro.papers.implicit_sparsification.one_shot import (
    PAPER_SPARSITIES,
    chosen_by_validation,
    pruned_accuracy,
    sign_flips,
)
from repro.papers.implicit_sparsification.settings import SETTINGS

TINY = replace(
    SETTINGS["digits"],
    n_epochs=4,
    build=partial(perceptron, (64, 16, 10)),
    parts=(200, 60, 150),
    batch_size=50,
)
N_WEIGHTS = 64 * 16 + 16 * 10
NAMES = ["1.weight", "3.weight"]


@pytest.fixture(scope="module")
def pilots() -> Fit:
    return fit(TINY, "pilot", [1e-3, 2e-2], seeds=[0, 4], progress=False)


def pruned_networks(fitted: Fit, sparsity: float, monkeypatch: pytest.MonkeyPatch) -> Ensemble:
    """What is measured on the test part."""
    seen: list[Ensemble] = []

    def noted(networks: Ensemble, *arguments: torch.Tensor, **options: bool) -> object:
        seen.append(networks)
        return evaluate(networks, *arguments, **options)

    monkeypatch.setattr(one_shot, "evaluate", noted)
    pruned_accuracy(fitted, [sparsity])
    return seen[-1]


# ---- pruning


@pytest.mark.parametrize("sparsity", [0.0, 0.29, 0.5, 0.9, 0.995, 1.0, PAPER_SPARSITIES[4]])
def test_exactly_the_smallest_of_all_weights_become_zero(
    pilots: Fit, sparsity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = pruned_networks(pilots, sparsity, monkeypatch)
    n_pruned = floor(round(sparsity * N_WEIGHTS, 6))
    for i in range(len(pruned)):
        before = [w for name in NAMES for w in pilots.networks.parameters[name][i].flatten().tolist()]
        after = [w for name in NAMES for w in pruned.parameters[name][i].flatten().tolist()]
        order = sorted(range(N_WEIGHTS), key=lambda j: (abs(before[j]), j))
        removed = set(order[:n_pruned])
        assert after == [0.0 if j in removed else w for j, w in enumerate(before)]
        assert after.count(0.0) == n_pruned
    for name in ("1.bias", "3.bias"):
        assert torch.equal(pruned.parameters[name], pilots.networks.parameters[name])


def test_accuracies_are_those_of_each_network_pruned_by_itself(pilots: Fit) -> None:
    table = pruned_accuracy(pilots, [0.0, 0.8])
    assert list(table.columns) == [
        "method", "strength", "seed", "sparsity", "validation_accuracy", "test_accuracy",
    ]  # fmt: skip
    assert len(table) == 2 * 4
    for i, member in enumerate(pilots.members.itertuples()):
        network, data = pilots.networks.member(i), pilots.datasets[i % 2]
        for sparsity in (0.0, 0.8):
            if sparsity:
                flat = torch.cat([network.get_parameter(name).detach().abs().flatten() for name in NAMES])
                threshold = flat.sort().values[floor(0.8 * N_WEIGHTS) - 1]
                with torch.no_grad():
                    for name in NAMES:
                        network.get_parameter(name).mul_(network.get_parameter(name).abs() > threshold)
            row = table[
                (table["strength"] == member.strength)
                & (table["seed"] == member.seed)
                & (table["sparsity"] == sparsity)
            ]
            for part in ("validation", "test"):
                x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
                right = (network(x).argmax(dim=1) == y).double().mean().item()
                assert row[f"{part}_accuracy"].item() == pytest.approx(right, abs=1e-12)


def test_pruning_leaves_the_fit_alone(pilots: Fit) -> None:
    before = pilots.networks.state_dict()
    pruned_accuracy(pilots, [0.9])
    assert all(torch.equal(value, before[name]) for name, value in pilots.networks.state_dict().items())


def test_without_weights_all_predict_one_class(pilots: Fit) -> None:
    table = pruned_accuracy(pilots, [1.0])
    for row in table.itertuples():
        data = pilots.datasets[pilots.seeds.index(row.seed)]
        shares = torch.bincount(data.y_test, minlength=10) / len(data.y_test)
        assert (shares - row.test_accuracy).abs().min() < 1e-6


def test_one_seed_and_no_validation_part() -> None:
    alone = fit(replace(TINY, parts=(200, 0, 150)), "x", seeds=[4], n_epochs=1, progress=False)
    table = pruned_accuracy(alone, [0.0, 0.5])
    assert table["validation_accuracy"].isna().all()
    expected = evaluate(alone.networks, alone.datasets[0].x_test, alone.datasets[0].y_test)[1].item()
    assert table["test_accuracy"][0] == expected
    with pytest.raises(ValueError, match="needs a validation part"):
        chosen_by_validation(table)


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan"), 90])
def test_sparsities_that_are_no_shares_are_refused(pilots: Fit, sparsity: float) -> None:
    with pytest.raises(ValueError, match=rf"must lie in \[0, 1\]; got {sparsity}"):
        pruned_accuracy(pilots, [0.5, sparsity])


def test_the_papers_levels() -> None:
    """Section 4: the smallest 1 - 0.8^k, k = 1 to 25."""
    percent = [round(100 * p, 2) for p in PAPER_SPARSITIES]
    assert len(percent) == 25
    assert percent[:3] == [20.0, 36.0, 48.8]
    assert [percent[k - 1] for k in (5, 10, 20, 25)] == [67.23, 89.26, 98.85, 99.62]


# ---- choosing on validation data


def _table(rows: list[tuple[str, float, int, float, float]]) -> pd.DataFrame:
    columns = ["method", "strength", "seed", "sparsity", "validation_accuracy"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(test_accuracy=np.linspace(0, 1, len(frame)))


def test_the_strength_with_the_best_mean_is_chosen_for_each_method_and_sparsity() -> None:
    frame = _table(
        [
            ("a", 1.0, 0, 0.9, 0.90), ("a", 1.0, 1, 0.9, 0.10), ("a", 2.0, 0, 0.9, 0.60), ("a", 2.0, 1, 0.9, 0.60),
            ("a", 1.0, 0, 0.5, 0.70), ("a", 1.0, 1, 0.5, 0.70), ("a", 2.0, 0, 0.5, 0.60), ("a", 2.0, 1, 0.5, 0.60),
            ("b", 3.0, 0, 0.9, 0.20), ("b", 3.0, 1, 0.9, 0.20),
        ]
    )  # fmt: skip
    chosen = chosen_by_validation(frame)
    assert list(zip(chosen["method"], chosen["strength"], chosen["seed"], chosen["sparsity"], strict=True)) == [
        ("a", 2.0, 0, 0.9), ("a", 2.0, 1, 0.9), ("a", 1.0, 0, 0.5), ("a", 1.0, 1, 0.5), ("b", 3.0, 0, 0.9),
        ("b", 3.0, 1, 0.9),
    ]  # fmt: skip
    assert list(chosen.columns) == list(frame.columns)


def test_the_test_set_has_no_say(pilots: Fit) -> None:
    frame = pruned_accuracy(pilots, [0.5, 0.9])
    chosen = chosen_by_validation(frame)
    rng = np.random.default_rng(0)
    keys = ["method", "strength", "seed", "sparsity"]
    for _ in range(5):
        shuffled = frame.assign(test_accuracy=rng.permutation(frame["test_accuracy"]))
        pd.testing.assert_frame_equal(chosen_by_validation(shuffled)[keys], chosen[keys])


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_means_the_smaller_strength_is_taken(order: int) -> None:
    # (0.1 + 0.2) / 2 is a rounding error more than 0.15
    frame = _table(
        [("a", 2.0, 0, 0.9, 0.1), ("a", 2.0, 1, 0.9, 0.2), ("a", 1.0, 0, 0.9, 0.15), ("a", 1.0, 1, 0.9, 0.15)]
    )
    assert (0.1 + 0.2) / 2 > 0.15
    assert set(chosen_by_validation(frame[::order])["strength"]) == {1.0}


def test_a_strength_at_which_a_seed_diverged_is_not_chosen() -> None:
    nan = float("nan")
    frame = _table(
        [("a", 1.0, 0, 0.9, 0.5), ("a", 1.0, 1, 0.9, 0.5), ("a", 2.0, 0, 0.9, nan), ("a", 2.0, 1, 0.9, 0.9)]
    )
    assert set(chosen_by_validation(frame)["strength"]) == {1.0}


# ---- sign flips


def by_hand(pilots: Fit, start: list[float], end: list[float]) -> Fit:
    """A fit of one network with one layer, 1 x n, whose weights are given."""
    layer = torch.nn.Linear(len(end), 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([end]))
    return replace(
        pilots,
        strengths=(1.0,),
        seeds=(0,),
        datasets=pilots.datasets[:1],
        networks=Ensemble([layer]),
        start={"weight": torch.tensor([[start]])},
    )


@pytest.mark.parametrize(
    ("top", "flips"), [(0.1, 0.0), (0.2, 0.5), (0.3, 1 / 3), (0.5, 0.4), (1.0, 0.2), (0.001, 0.0)]
)
def test_flips_among_the_largest_by_hand(pilots: Fit, top: float, flips: float) -> None:
    end = [0.5, -4.0, 3.0, 5.0, 0.0, 2.0, -0.1, 0.2, 0.3, 0.4]
    start = [0.1, 0.1, 0.1, 0.1, -1.0, -0.1, -0.1, 0.1, 0.0, 0.1]
    # by size: 5 kept, -4 flipped, 3 kept, 2 flipped, 0.5 kept; what was or became 0 has not flipped
    found = sign_flips(by_hand(pilots, start, end), top)
    assert found["flips"].tolist() == pytest.approx([flips])
    assert list(found.columns) == ["method", "strength", "seed", "flips"]


def test_flips_agree_with_a_slow_count_over_all_layers(pilots: Fit) -> None:
    found = sign_flips(pilots, 0.1)
    n_top = round(0.1 * N_WEIGHTS)
    for i, flips in enumerate(found["flips"]):
        pairs = [
            pair
            for name in NAMES
            for pair in zip(
                pilots.networks.parameters[name][i].flatten().tolist(),
                pilots.start[name][i].flatten().tolist(),
                strict=True,
            )
        ]
        largest = sorted(pairs, key=lambda pair: -abs(pair[0]))[:n_top]
        assert flips == pytest.approx(sum(end * start < 0 for end, start in largest) / n_top)
    pd.testing.assert_frame_equal(found.drop(columns="flips"), pilots.members)
    assert found["flips"].max() > 0


def test_small_steps_on_balanced_factors_flip_nothing() -> None:
    slow = replace(TINY, factor_rate=0.01)
    balanced = sign_flips(fit(slow, "balanced", [1e-2], seeds=[0, 4], progress=False), 1.0)
    free = sign_flips(fit(slow, "pilot", [1e-2], seeds=[0, 4], progress=False), 1.0)
    assert (balanced["flips"] < 0.002).all()
    assert (free["flips"] > 10 * balanced["flips"] + 0.01).all()


@pytest.mark.parametrize("top", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(pilots: Fit, top: float) -> None:
    with pytest.raises(
        ValueError, match=f"top is a share of the weights, above 0 and at most 1; got {top!r}"
    ):
        sign_flips(pilots, top)
