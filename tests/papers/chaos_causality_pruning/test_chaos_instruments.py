"""How nudges grow, Shapley values, power laws: closed forms, axioms, slow versions, scipy's."""

import math
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from repro.papers.chaos_causality_pruning import experiments
from repro.papers.chaos_causality_pruning.experiments import _mean_absolute_shapley, _shapley_values
from repro.papers.chaos_causality_pruning.perceptrons import _Examples, _Perceptrons


def test_nudges_grow_by_the_jacobian_of_training():
    """Against autograd through every step."""
    rng, networks = np.random.default_rng(0), _Perceptrons.drawn((3, 4, 2), [0, 1])
    examples = _Examples.of(rng.normal(size=(12, 3)), rng.integers(0, 2, 12), 2)
    before, rate = networks.flat(), 0.5
    random, worst = experiments._growth(networks, examples, learning_rate=rate, n_epochs=6)
    assert torch.equal(networks.flat(), before)
    assert random.shape == worst.shape == (2, 7)
    assert not np.stack([random, worst])[..., 0].any()
    shapes = [t[0].shape for t in networks.tensors]

    def trained(flat: torch.Tensor) -> torch.Tensor:
        cut = flat.split([s.numel() for s in shapes])
        parts = [p.view(shape) for p, shape in zip(cut, shapes, strict=True)]
        for _, k in product(range(6), range(12)):
            w1, w2, b1, b2 = parts
            hidden = torch.sigmoid(w1 @ examples.x[0, k, :, None] + b1)
            outputs = torch.sigmoid(w2 @ hidden + b2)
            loss = (outputs[:, 0] - examples.targets[0, :, k]).square().mean()
            slopes = torch.autograd.grad(loss, parts, create_graph=True)
            parts = [p - rate * slope for p, slope in zip(parts, slopes, strict=True)]
        return torch.cat([p.flatten() for p in parts])

    start = torch.cat([t[1].flatten() for t in networks.tensors])
    jacobian = torch.autograd.functional.jacobian(trained, start)
    assert worst[1, -1] == pytest.approx(float(torch.linalg.matrix_norm(jacobian, 2).log()), abs=1e-4)
    spread = float(jacobian.square().sum() / len(start)) ** 0.5
    assert random[1, -1] == pytest.approx(math.log(spread), abs=1e-4)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape))


def nets_of(n_features: int, n_networks: int, n_classes: int = 3, seed: int = 0) -> _Perceptrons:
    """Random perceptrons with one hidden layer, evaluated side by side."""
    networks = _Perceptrons.drawn((n_features, 6, n_classes), range(seed, seed + n_networks))
    return _Perceptrons([7 * w for w in networks.weights], networks.biases)


@settings(deadline=None, max_examples=15)
@given(n=st.integers(1, 8), m=st.integers(1, 5), networks=st.integers(1, 4), seed=st.integers(0, 1000))
def test_values_add_up_to_the_difference_from_the_background(n, m, networks, seed):
    nets, b, x = nets_of(n, networks, seed=seed), normal(seed + 2, n), normal(seed + 3, m, n)
    difference = nets(x) - nets(b[None])
    torch.testing.assert_close(_shapley_values(nets, b, x).sum(-1), difference, rtol=0, atol=1e-12)


def test_features_that_are_cut_off_are_worth_exactly_nothing_and_tie():
    nets, x = nets_of(6, 4), normal(6, 9, 6)
    nets.weights[0][1, :, [2, 5]] = 0
    found = _mean_absolute_shapley(nets, x.mean(0), x)
    assert found[1, [2, 5]].tolist() == [0, 0]
    assert (found > 0).sum() == 22
    nets.weights[0][:] = 0
    assert not _mean_absolute_shapley(nets, x.mean(0), x).any()


def test_equal_to_the_mean_over_all_orders_of_the_features():
    nets, b, x = nets_of(5, 1, n_classes=1, seed=4), normal(10, 5), normal(11, 1, 5)
    expected = torch.zeros(5, dtype=torch.float64)
    for order in permutations(range(5)):
        row, before = b.clone(), nets(b[None]).item()
        for feature in order:
            row[feature] = x[0, feature]
            after = nets(row[None]).item()
            expected[feature] += (after - before) / math.factorial(5)
            before = after
    torch.testing.assert_close(_shapley_values(nets, b, x).flatten(), expected, rtol=0, atol=1e-12)


def test_many_networks_at_once_are_as_one_by_one_in_chunks_of_any_size(monkeypatch):
    nets, b, x = nets_of(7, 5), normal(12, 7), normal(13, 11, 7)
    together = _mean_absolute_shapley(nets, b, x)
    alone = [_mean_absolute_shapley(lambda z, r=r: nets(z)[r : r + 1], b, x)[0] for r in range(5)]
    np.testing.assert_allclose(together, alone, atol=1e-13)
    monkeypatch.setattr(experiments, "_ROWS", 100)
    np.testing.assert_allclose(_mean_absolute_shapley(nets, b, x), together, atol=1e-13)


@pytest.mark.parametrize("n", [3, 10, 30])
def test_the_exponent_is_scipys_at_the_threshold_whose_law_is_nearest(n):
    values = np.sort(np.random.default_rng(n).gamma(0.7, size=n))
    distances, exponents = [], []
    for x_min in values[:-1]:
        tail = values[values >= x_min]
        shape, _, _ = stats.pareto.fit(tail, floc=0, fscale=x_min)
        exponents.append(shape + 1)
        distances.append(stats.kstest(tail, stats.pareto(shape, scale=x_min).cdf).statistic)
    found = experiments._tail_exponent(np.r_[0, values[::-1], 0])  # zeros are left out
    assert found == pytest.approx(exponents[int(np.argmin(distances))], rel=1e-8)


OF_RANK_3 = normal(8, 40, 3) @ normal(9, 3, 40)


@pytest.mark.parametrize(
    "weight", [normal(7, 30, 50), normal(7, 50, 30), OF_RANK_3], ids=["wide", "high", "thin"]
)
def test_a_layers_law_is_that_of_the_eigenvalues_of_its_square_that_are_not_0(weight):
    eigenvalues = np.linalg.eigvalsh(weight.T @ weight / max(weight.shape))
    expected = experiments._tail_exponent(eigenvalues[-np.linalg.matrix_rank(weight) :])
    assert experiments._spectral_exponent(weight.numpy()) == pytest.approx(expected, rel=1e-6)
