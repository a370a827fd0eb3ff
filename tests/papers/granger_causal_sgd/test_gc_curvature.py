"""Curvature and noise: explicit Hessians of small networks, interlacing, negative curvature, quadratic losses."""

import pytest
import torch
from gc_by_hand import WEIGHTS
from torch import nn
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy

from repro.learn import Ensemble, initialization, perceptron
from repro.papers.granger_causal_sgd import curvature
from repro.papers.granger_causal_sgd.curvature import largest_eigenvalues, noise_sensitivity


@pytest.fixture(scope="module")
def two():
    members = []
    for seed in range(2):
        with initialization(seed):
            members.append(perceptron((4, 5, 4), activation="tanh").double())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 40, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (2, 40), generator=generator)
    return Ensemble(members), x, y


def explicit(ensemble, x, y, i):
    """The full Hessian of member i, by automatic differentiation of everything at once."""
    member = ensemble.member(i)
    shapes = {n: p.shape[1:] for n, p in ensemble.parameters.items()}

    def loss(flat):
        parts = flat.split([s.numel() for s in shapes.values()])
        named = {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        return cross_entropy(functional_call(member, named, (x[i],)), y[i])

    return hessian(loss)(torch.cat([ensemble.parameters[n][i].detach().flatten() for n in shapes]))


def everything(ensemble):
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in ensemble.parameters.items()}


def test_the_largest_is_that_of_the_explicit_matrix_and_of_the_submatrix_that_is_kept(two, monkeypatch):
    """One network keeps three weights and has no direction left long before the other, all negative, is done."""
    ensemble, x, y = two
    kept = {name: torch.ones(ensemble.parameters[name].shape, dtype=torch.bool) for name in WEIGHTS}
    for mask in kept.values():
        mask[0] = False
    kept["1.weight"][0, 0, :3] = True

    def negative(outputs, targets):
        return -cross_entropy(outputs, targets, reduction="none")

    monkeypatch.setattr(curvature, "_TOLERANCE", 1e-6)
    whole = largest_eigenvalues(ensemble, x, y, everything(ensemble))
    monkeypatch.setattr(curvature, "_AT_ONCE", 1)
    torch.testing.assert_close(largest_eigenvalues(ensemble, x, y, everything(ensemble)), whole)
    monkeypatch.setattr(curvature, "_AT_ONCE", 2)
    part = largest_eigenvalues(ensemble, x, y, kept, loss=negative)
    for i in range(2):
        matrix = explicit(ensemble, x, y, i)
        chosen = torch.cat([kept.get(n, p < p)[i].flatten() for n, p in ensemble.parameters.items()])
        assert float(whole[i]) == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-8)
        wanted = torch.linalg.eigvalsh(-matrix[chosen][:, chosen])[-1]
        assert float(part[i]) == pytest.approx(float(wanted), rel=1e-7)
        assert wanted <= torch.linalg.eigvalsh(-matrix)[-1], "fewer coordinates are never sharper"


@pytest.mark.parametrize("curvatures", [[1.0, -4.0, -5.0], [2.0, 2.0, 2.0, 2.0, -7.0, -7.0]])
def test_larger_negative_curvature_is_not_taken_for_the_largest(curvatures):
    """Example k sees weight k alone, and its loss is half a parabola of that curvature."""
    n, each = len(curvatures), torch.tensor(curvatures, dtype=torch.float64)

    def parabolas(outputs, targets):
        return n * each[targets] * outputs[:, 0] ** 2 / 2

    data = torch.eye(n, dtype=torch.float64)[None], torch.arange(n)[None]
    ensemble = Ensemble([nn.Linear(n, 1, bias=False)])
    found = largest_eigenvalues(ensemble, *data, everything(ensemble), loss=parabolas)
    assert float(found) == pytest.approx(curvatures[0], rel=1e-6)


def test_stopping_early_is_said(two, monkeypatch):
    monkeypatch.setattr(curvature, "_MOST_PRODUCTS", 3)
    with pytest.warns(RuntimeWarning, match="stopped at 3 products"):
        largest_eigenvalues(*two, everything(two[0]))


X = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
WEIGHT = torch.tensor([[2.0, -0.5]], dtype=torch.float64)


def test_a_quadratic_rises_by_half_its_weighted_trace(monkeypatch):
    module = nn.Linear(2, 1, bias=False)
    module.weight.data.copy_(WEIGHT)

    def rise(sigma, *kept):
        """Of a loss that is zero at the weights; the Hessian of the mean is diagonal, 1 and 9."""
        squares = lambda outputs, targets: (outputs[:, 0] - (X @ WEIGHT[0])[targets]) ** 2  # noqa: E731
        mask = {"weight": torch.tensor([[kept]])}
        return float(
            noise_sensitivity(Ensemble([module]), X[None], torch.arange(2)[None], sigma, mask, loss=squares)
        )

    # the same draws serve all strengths and masks
    assert rise(3.0, True, True) == pytest.approx(30**2 * rise(0.1, True, True))
    assert rise(0.1, True, True) == pytest.approx(rise(0.1, True, False) + rise(0.1, False, True))
    monkeypatch.setattr(curvature, "_DRAWS", 500)
    assert rise(0.1, True, True) == pytest.approx(0.1**2 * (1 * 2.0**2 + 9 * 0.5**2) / 2, rel=0.15)


def test_the_same_draws_serve_one_network_and_many_and_all_are_left_as_they_were(two):
    ensemble, x, y = two
    before = ensemble.state_dict()
    together = noise_sensitivity(ensemble.train(), x, y, 0.3, everything(ensemble))
    assert ensemble.training
    assert all(torch.equal(t, before[name]) for name, t in ensemble.state_dict().items())
    for i in range(2):
        one = Ensemble([ensemble.member(i)])
        alone = noise_sensitivity(one, x[i : i + 1], y[i : i + 1], 0.3, everything(one))
        torch.testing.assert_close(alone[0], together[i])
    nothing = {"1.weight": torch.zeros(2, 5, 4, dtype=torch.bool)}
    assert not noise_sensitivity(ensemble, x, y, 0.5, nothing).any()


def test_bad_input_is_named_by_its_place_among_all_networks(two, monkeypatch):
    monkeypatch.setattr(curvature, "_AT_ONCE", 1)
    (ensemble, x, y), nothing = two, torch.ones(2, 5, 4, dtype=torch.bool)
    broken, nothing[1] = x.clone(), False
    broken[1] = torch.nan
    with pytest.raises(ValueError, match="loss of network 1 is nan"):
        largest_eigenvalues(ensemble, broken, y, everything(ensemble))
    with pytest.raises(ValueError, match="nothing is kept of network 1"):
        largest_eigenvalues(ensemble, x, y, {"1.weight": nothing})
