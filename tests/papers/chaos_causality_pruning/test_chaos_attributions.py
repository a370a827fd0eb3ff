"""Shapley values: closed form, axioms, captum's; rankings compared."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues, ShapleyValueSampling
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.papers.chaos_causality_pruning import attributions
from repro.papers.chaos_causality_pruning.attributions import (
    mean_absolute_shapley,
    rank_agreement,
    shapley_values,
)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


class Nets:
    """R random perceptrons with one hidden layer, evaluated side by side."""

    def __init__(self, n_features: int, n_networks: int, n_classes: int = 3, seed: int = 0) -> None:
        self.w1 = normal(seed, n_networks, 6, n_features)
        self.w2 = normal(seed + 1, n_networks, n_classes, 6)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.sigmoid(torch.einsum("rhf,mf->rmh", self.w1, x))
        return torch.sigmoid(torch.einsum("rch,rmh->rmc", self.w2, hidden))

    def one(self, r: int):
        return lambda x: self(x)[r]


def test_a_linear_models_values_are_weights_times_differences():
    w, b, x = normal(0, 2, 3, 5), normal(1, 5), normal(2, 7, 5)
    values = shapley_values(lambda z: torch.einsum("rcf,mf->rmc", w, z) + 4, b, x)
    assert values.shape == (2, 7, 3, 5)
    torch.testing.assert_close(values, w[:, None] * (x - b)[None, :, None], rtol=0, atol=1e-12)


def test_the_two_features_of_a_product_share_it():
    values = shapley_values(lambda z: z.prod(1).reshape(1, -1, 1), torch.zeros(2), torch.tensor([[3.0, 5.0]]))
    assert values.flatten().tolist() == pytest.approx([7.5, 7.5])


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 8), m=st.integers(1, 5), networks=st.integers(1, 4), seed=st.integers(0, 1000))
def test_values_add_up_to_the_difference_from_the_background(n, m, networks, seed):
    nets, b, x = Nets(n, networks, seed=seed), normal(seed + 2, n), normal(seed + 3, m, n)
    difference = nets(x) - nets(b[None])
    torch.testing.assert_close(shapley_values(nets, b, x).sum(-1), difference, rtol=0, atol=1e-12)


def test_features_of_the_same_role_get_the_same_value():
    nets, b, x = Nets(4, 3), torch.zeros(4), normal(5, 6, 4)
    nets.w1[:, :, 2] = nets.w1[:, :, 0]
    x[:, 2] = x[:, 0]
    values = shapley_values(nets, b, x)
    torch.testing.assert_close(values[..., 2], values[..., 0], rtol=0, atol=1e-13)
    assert not torch.allclose(values[..., 1], values[..., 0])


def test_features_that_are_cut_off_are_worth_exactly_nothing_and_tie():
    nets, x = Nets(6, 4), normal(6, 9, 6)
    nets.w1[1, :, [2, 5]] = 0
    found = mean_absolute_shapley(nets, x.mean(0), x)
    assert found[1, [2, 5]].tolist() == [0, 0]
    assert (found > 0).sum() == 22
    nets.w1[:] = 0
    assert not mean_absolute_shapley(nets, x.mean(0), x).any()


@pytest.mark.parametrize("n", [3, 4])
def test_equal_to_captums_exact_values(n):
    nets, b, x = Nets(n, 3), normal(7, n), normal(8, 10, n)
    found = shapley_values(nets, b, x)
    for r in range(3):
        for c in range(3):
            expected = ShapleyValues(nets.one(r)).attribute(x, baselines=b[None], target=c)
            # captum adds up in single precision
            torch.testing.assert_close(found[r, :, c], expected.double(), rtol=0, atol=1e-6)


def test_captums_sampled_values_of_ten_features_come_close():
    nets, b, x = Nets(10, 1, n_classes=1), torch.zeros(10, dtype=torch.float64), normal(9, 5, 10)
    torch.manual_seed(0)
    sampled = ShapleyValueSampling(nets.one(0)).attribute(x, baselines=b[None], target=0, n_samples=400)
    found = shapley_values(nets, b, x)[0, :, 0]
    assert (sampled - found).abs().max() < 0.1 * found.abs().max()


def test_equal_to_the_mean_over_all_orders_of_the_features():
    nets, b, x = Nets(5, 1, n_classes=1, seed=4), normal(10, 5), normal(11, 1, 5)
    expected = torch.zeros(5, dtype=torch.float64)
    for order in permutations(range(5)):
        row, before = b.clone(), nets(b[None]).item()
        for feature in order:
            row[feature] = x[0, feature]
            after = nets(row[None]).item()
            expected[feature] += (after - before) / math.factorial(5)
            before = after
    torch.testing.assert_close(shapley_values(nets, b, x).flatten(), expected, rtol=0, atol=1e-12)


def test_many_networks_at_once_are_as_one_by_one_in_chunks_of_any_size(monkeypatch):
    nets, b, x = Nets(7, 5), normal(12, 7), normal(13, 11, 7)
    together = mean_absolute_shapley(nets, b, x)
    assert together.shape == (5, 7)
    alone = [mean_absolute_shapley(lambda z, r=r: nets(z)[r : r + 1], b, x)[0] for r in range(5)]
    np.testing.assert_allclose(together, alone, atol=1e-13)
    monkeypatch.setattr(attributions, "_ROWS", 100)
    np.testing.assert_allclose(mean_absolute_shapley(nets, b, x), together, atol=1e-13)


def test_the_mean_is_over_examples_and_classes():
    w, b = torch.tensor([[[2.0, 0.0], [-4.0, 1.0]]], dtype=torch.float64), torch.zeros(2)
    x = torch.tensor([[1.0, 1.0], [-3.0, 5.0]])
    found = mean_absolute_shapley(lambda z: torch.einsum("rcf,mf->rmc", w, z), b, x)
    assert found[0].tolist() == pytest.approx([(2 + 4 + 6 + 12) / 4, (0 + 1 + 0 + 5) / 4])


@pytest.mark.parametrize(
    ("background", "x", "message"),
    [
        (torch.zeros(3), torch.zeros(2, 4), r"got \(2, 4\) and \(3,\)"),
        (torch.zeros(4), torch.zeros(4), r"got \(4,\) and \(4,\)"),
        (torch.zeros(4), torch.zeros(0, 4), r"got \(0, 4\)"),
        (torch.zeros(17), torch.zeros(2, 17), "at most 16 features; got 17"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(background, x, message):
    with pytest.raises(ValueError, match=message):
        shapley_values(lambda z: pytest.fail("work before the check"), background, x)


def test_a_predictor_of_another_form_is_refused():
    with pytest.raises(ValueError, match=r"must return \(R, m, classes\) for 8 examples; got \(8, 2\)"):
        shapley_values(lambda z: z, torch.zeros(2), torch.zeros(2, 2))


# --- rankings -------------------------------------------------------------------------------------------------


def test_rank_agreement_by_hand():
    same = rank_agreement([4, 3, 2, 1], [10, 5, 1, 0])
    assert (same.spearman, same.kendall) == (pytest.approx(1), pytest.approx(1))
    # the paper's Banknote bars: 3, 0, 2, 1 against 0, 3, 2, 1, one of six pairs the other way round
    found = rank_agreement([0.22, 0.03, 0.13, 0.25], [0.25, 0.05, 0.16, 0.22])
    assert found.spearman == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert found.kendall == pytest.approx((5 - 1) / 6)


def test_rankings_without_relation_do_not_agree_on_average():
    rng = np.random.default_rng(14)
    found = [rank_agreement(rng.random(6), rng.random(6)).spearman for _ in range(400)]
    # the correlation of two random rankings of n has variance 1 / (n - 1)
    assert abs(np.mean(found)) < 4 * math.sqrt(1 / 5 / 400)
    assert np.var(found) == pytest.approx(1 / 5, rel=0.2)


def test_what_ranks_nothing_agrees_with_nothing():
    found = rank_agreement([0, 0, 0], [3, 1, 2])
    assert math.isnan(found.spearman)
    assert math.isnan(found.kendall)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1, 2], [1, 2, 3], r"got \(2,\) and \(3,\)"),
        ([1], [1], "two features or more"),
        ([1, np.nan], [1, 2], "must be finite; got .*nan"),
    ],
)
def test_lists_that_cannot_be_compared_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        rank_agreement(a, b)
