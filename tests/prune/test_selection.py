"""Selection: exactly k, nested, stable under ties, and equal to torch where there are none."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from repro.prune import Mask, magnitude, random, select
from repro.prune.selection import n_to_prune

# few different values, so that ties are the rule
tied = st.lists(st.integers(-2, 2), min_size=1, max_size=12).map(
    lambda v: torch.tensor(v, dtype=torch.float32)
)
scores_with_ties = st.dictionaries(st.sampled_from(["c", "a", "b"]), tied, min_size=1)
percent = st.integers(0, 100)


def by_sorting(scores: dict[str, torch.Tensor], n_pruned: int) -> dict[str, list[bool]]:
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


@given(scores_with_ties, percent)
def test_layer_selection_is_selection_in_each_layer(scores, p):
    mask = select(scores, sparsity=p / 100, scope="layer")
    for name, values in scores.items():
        assert torch.equal(mask[name], select({name: values}, sparsity=p / 100)[name])
        assert mask.n_pruned_by_parameter[name] == p * len(values) // 100


@given(scores_with_ties, percent, percent, st.sampled_from(["global", "layer"]))
def test_masks_are_nested_as_sparsity_rises(scores, p, q, scope):
    low, high = (select(scores, sparsity=s / 100, scope=scope) for s in sorted((p, q)))
    assert low & high == high


@given(scores_with_ties, percent)
def test_a_threshold_separates_the_kept_from_the_pruned(scores, p):
    mask = select(scores, sparsity=p / 100)
    flat = torch.cat(list(scores.values()))
    kept = torch.cat([mask[name] for name in scores])
    if kept.any() and not kept.all():
        assert flat[kept].min() >= flat[~kept].max()


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


def test_ties_by_hand():
    scores = {"b": torch.tensor([[1.0, 0.0], [0.0, 1.0]]), "a": torch.tensor([0.0, 0.0])}
    mask = select(scores, n_pruned=3)
    assert mask["b"].tolist() == [[True, False], [False, True]]
    assert mask["a"].tolist() == [False, True]
    # threshold pruning would remove four of six here
    assert (
        select({"w": torch.tensor([1.0, 1, 1, 1, 2, 2])}, n_pruned=2)["w"].tolist()
        == [False] * 2 + [True] * 4
    )


def test_infinite_scores_go_first_or_never():
    scores = {"w": torch.tensor([torch.inf, 0.0, -torch.inf, 5.0])}
    assert select(scores, n_pruned=1)["w"].tolist() == [True, True, False, True]
    assert select(scores, n_pruned=3)["w"].tolist() == [True, False, False, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_any_real_type_of_score_is_ranked(dtype):
    scores = {"w": torch.tensor([1, 0, 1], dtype=dtype)}
    assert select(scores, n_pruned=1)["w"].tolist() == [True, False, True]


@pytest.mark.parametrize("sparsity", [0.1, 0.25, 0.5, 0.9])
def test_agrees_with_torch_where_there_are_no_ties(sparsity):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 10))  # 216 + 320 weights
    n_pruned = round(sparsity * 536)  # torch rounds where we cut off: ask both for the same number
    mask = select(magnitude(model), n_pruned=n_pruned)
    torch_prune.global_unstructured(
        [(model[0], "weight"), (model[2], "weight")], torch_prune.L1Unstructured, amount=n_pruned
    )
    assert torch.equal(mask["0.weight"], model[0].weight_mask.bool())
    assert torch.equal(mask["2.weight"], model[2].weight_mask.bool())


def test_random_control_at_the_densities_of_another_mask():
    model = nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 5))
    mask = select(magnitude(model), sparsity=0.7)
    control = select(
        random(model, generator=torch.Generator().manual_seed(0)),
        n_pruned=mask.n_pruned_by_parameter,
        scope="layer",
    )
    assert control.n_pruned_by_parameter == mask.n_pruned_by_parameter
    assert control != mask


@given(st.integers(0, 1000), st.integers(0, 10**7))
def test_the_number_removed_is_that_of_decimal_arithmetic(thousandths, n):
    expected = Fraction(thousandths, 1000) * n // 1
    assert n_to_prune(n, sparsity=thousandths / 1000) == expected
    assert n_to_prune(n, sparsity=np.float64(thousandths / 1000)) == expected
    assert n_to_prune(n, sparsity=np.float32(thousandths / 1000)) == expected
    assert n_to_prune(n, sparsity=1 - (1000 - thousandths) / 1000) == expected  # fuzz from arithmetic


def test_a_product_just_below_a_whole_number_loses_none():
    assert int(0.29 * 100) == 28  # the trap
    assert n_to_prune(100, sparsity=0.29) == 29
    assert n_to_prune(10, sparsity=1 - 0.9) == 1
    assert n_to_prune(7, sparsity=0.5) == 3


SCORES = {"w": torch.arange(4.0), "v": torch.arange(2.0)}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "either sparsity or n_pruned"),
        ({"sparsity": 0.5, "n_pruned": 1}, ValueError, "either sparsity or n_pruned"),
        ({"sparsity": 1.01}, ValueError, r"\[0, 1\]; got 1.01"),
        ({"sparsity": -0.1}, ValueError, r"\[0, 1\]; got -0.1"),
        ({"sparsity": float("nan")}, ValueError, r"\[0, 1\]; got nan"),
        ({"sparsity": "half"}, TypeError, "must be a number, got 'half'"),
        ({"sparsity": True}, TypeError, "must be a number, got True"),
        ({"n_pruned": 7}, ValueError, "between 0 and 6, the number there is; got 7"),
        ({"n_pruned": -1}, ValueError, "got -1"),
        ({"n_pruned": 2.0}, TypeError, r"whole number, got 2\.0"),
        ({"n_pruned": 3, "scope": "layer"}, ValueError, "between 0 and 2"),
        ({"sparsity": 0.5, "scope": "neuron"}, ValueError, "'global' or 'layer', got 'neuron'"),
        ({"n_pruned": {"w": 1, "v": 1}}, ValueError, "scope='layer'"),
        ({"n_pruned": {"w": 1}, "scope": "layer"}, ValueError, r"differ in \['v'\]"),
        ({"n_pruned": 1, "within": Mask({"v": torch.tensor([True])})}, ValueError, r"shape \(1,\) at 'v'"),
    ],
)
def test_bad_requests(arguments, error, message):
    with pytest.raises(error, match=message):
        select(SCORES, **arguments)


def test_bad_scores():
    with pytest.raises(ValueError, match="1 of the 2 scores of 'w' are NaN"):
        select({"w": torch.tensor([1.0, torch.nan])}, sparsity=0.5)
    with pytest.raises(ValueError, match="no scores"):
        select({}, sparsity=0.5)
    with pytest.raises(TypeError, match="'w' are list"):
        select({"w": [1.0]}, sparsity=0.5)  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"'w' are torch\.complex64"):
        select({"w": torch.ones(2, dtype=torch.complex64)}, sparsity=0.5)
