"""Selection: exactly k, nested, and stable under ties."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from repro.prune import (
    Mask,
    expected_jaccard,
    jaccard,
    select,
    select_units,
    unit_mask,
    unit_norms,
)
from repro.prune.selection import _n_to_prune

# few different values, so that ties are the rule
tied = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=12).map(torch.tensor)
scores_with_ties = st.dictionaries(st.sampled_from(["c", "a", "b"]), tied, min_size=1)
percent = st.integers(0, 100)


def by_sorting(scores, n_pruned):
    """The tie rule as a slow loop: sort (score, name's place, index), remove the first ones."""
    places = [(float(s), i, j) for i, v in enumerate(scores.values()) for j, s in enumerate(v)]
    gone = {(i, j) for _, i, j in sorted(places)[:n_pruned]}
    return {name: [(i, j) not in gone for j in range(len(v))] for i, (name, v) in enumerate(scores.items())}


@given(scores_with_ties, percent)
def test_global_selection_equals_a_slow_loop(scores, p):
    n = sum(len(v) for v in scores.values())
    mask = select(scores, sparsity=p / 100)
    assert mask.n_pruned == p * n // 100
    assert {name: kept.tolist() for name, kept in mask.items()} == by_sorting(scores, p * n // 100)


@given(scores_with_ties, percent, percent, st.integers(0, 1000))
def test_selection_within_a_mask_never_brings_a_weight_back_and_is_exact(scores, p, q, seed):
    n = sum(len(v) for v in scores.values())
    generator = torch.Generator().manual_seed(seed)
    first = select({k: torch.rand(v.shape, generator=generator) for k, v in scores.items()}, sparsity=p / 100)
    if q < p and q * n // 100 < first.n_pruned:
        with pytest.raises(ValueError, match=f"within has removed {first.n_pruned} already"):
            select(scores, sparsity=q / 100, within=first)
    else:
        second = select(scores, sparsity=q / 100, within=first)
        assert second & first == second
        assert second.n_pruned == q * n // 100


@given(st.integers(0, 1000), st.integers(0, 10**7))
def test_the_number_removed_is_that_of_decimal_arithmetic(thousandths, n):
    expected = Fraction(thousandths, 1000) * n // 1
    assert _n_to_prune(n, sparsity=thousandths / 1000) == expected
    assert _n_to_prune(n, sparsity=np.float64(thousandths / 1000)) == expected
    assert _n_to_prune(n, sparsity=np.float32(thousandths / 1000)) == expected
    assert _n_to_prune(n, sparsity=1 - (1000 - thousandths) / 1000) == expected  # fuzz from arithmetic


SCORES = {"w": torch.arange(4.0), "v": torch.arange(2.0)}


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"sparsity": np.nan},
        {"n_pruned": 7},
        {"n_pruned": 1, "within": Mask({"u": torch.tensor([False])})},
    ],
)
def test_bad_requests(request_):
    with pytest.raises(ValueError, match=r"sparsity|n_pruned|within"):
        select(SCORES, **request_)
    with pytest.raises(ValueError, match="comparable numbers, got 1 NaN"):
        select(SCORES | {"v": torch.tensor([1.0, torch.nan])}, n_pruned=1)
    with pytest.raises(ValueError, match=r"'' has 3 units; keep has shape \(2,\)"):
        unit_mask(nn.Linear(2, 3), "", torch.ones(2) > 0)


@given(tied, percent)
def test_units_go_by_the_rule_that_weights_go_by(scores, p):
    kept = select({"w": scores}, sparsity=p / 100)["w"]
    assert torch.equal(select_units(scores, p / 100), kept)
    assert torch.equal(select_units(torch.stack([scores, scores]), p / 100)[1], kept)


def test_units_are_rows_or_filters_with_their_biases():
    mask = unit_mask(nn.Sequential(nn.Linear(2, 3)), "0", torch.tensor([True, False, True]))
    assert mask["0.weight"].tolist() == [[True, True], [False, False], [True, True]]
    assert mask["0.bias"].tolist() == [True, False, True]
    mask = unit_mask(nn.Conv2d(2, 3, 3, bias=False), "", torch.tensor([False, True, True]))
    assert list(mask) == ["weight"]
    assert mask.n_pruned == 18
    assert not mask["weight"][0].any()


def test_a_pruned_network_is_the_smaller_network():
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
    keep = select_units(unit_norms(model)["0"], 0.6)
    small = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        small[0].weight.copy_(model[0].weight[keep])
        small[0].bias.copy_(model[0].bias[keep])
        small[2].weight.copy_(model[2].weight[:, keep])
        small[2].bias.copy_(model[2].bias)
    unit_mask(model, "0", keep).apply(model)
    x = torch.randn(7, 4)
    torch.testing.assert_close(model(x), small(x))


# --- agreement of sets, and of random ones ----------------------------------------------------------------------


def test_overlap_by_hand_in_either_container():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert jaccard(a, b) == jaccard(torch.tensor(a), torch.tensor(b)) == 1 / 3
    assert jaccard(a & ~a, b & ~b) == 1
    with pytest.raises(ValueError, match="two sets are bool vectors of one length"):
        jaccard(np.ones(3), np.ones(3, bool))


@given(st.integers(1, 40), st.floats(0, 1), st.floats(0, 1))
def test_chance_is_the_mean_over_the_hypergeometric_distribution(n, first, second):
    k, m = round(first * n), round(second * n)
    both = np.arange(max(0, k + m - n), min(k, m) + 1)
    of_both = both / np.maximum(k + m - both, 1) if k + m else np.ones(1)
    assert expected_jaccard(k, m, n) == pytest.approx((stats.hypergeom.pmf(both, n, k, m) * of_both).sum())
