"""Noise on weights: closed forms of quadratic losses, what is left alone, the same draws for all."""

import pytest
import torch

from repro.geometry.curvature import Hessian, eigenvalues
from repro.geometry.noise import noise_sensitivity
from repro.learn import Ensemble, initialization, perceptron

X = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
WEIGHT = torch.tensor([[2.0, -0.5]], dtype=torch.float64)


@pytest.fixture(scope="module")
def two():
    members = []
    for seed in range(2):
        with initialization(seed):
            members.append(perceptron((4, 5, 3), activation="tanh"))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator)
    return Ensemble(members), x, torch.randint(0, 3, (30,), generator=generator)


def linear():
    module = torch.nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(WEIGHT)
    return module


def squares(outputs, targets):
    """Zero at the weights; the Hessian of the mean is diagonal, 1 and 9."""
    return (outputs[:, 0] - (X @ WEIGHT[0])[targets]) ** 2


@pytest.mark.parametrize(("relative", "curvature"), [(False, 1 + 9), (True, 1 * 2.0**2 + 9 * 0.5**2)])
def test_a_quadratic_rises_by_half_its_weighted_trace(relative, curvature):
    sigmas = [0.1, 3.0]
    rise = noise_sensitivity(
        linear(), X, torch.arange(2), sigmas, relative=relative, n_draws=2000, loss=squares
    )
    for found, sigma in zip(rise[0].tolist(), sigmas, strict=True):
        assert found == pytest.approx(sigma**2 * curvature / 2, rel=0.1)


def test_only_kept_weights_are_disturbed():
    kept = {"weight": torch.tensor([[True, False]])}
    rise = noise_sensitivity(linear(), X, torch.arange(2), [0.1], kept=kept, n_draws=2000, loss=squares)
    assert float(rise) == pytest.approx(0.1**2 * 1 / 2, rel=0.1)


def test_small_noise_agrees_with_the_curvature_of_each_network(two):
    ensemble, x, y = two
    hessian = Hessian(ensemble, x, y)
    values = eigenvalues(hessian, hessian.n, tolerance=1e-9).values
    rise = noise_sensitivity(ensemble, x, y, [0.01], n_draws=1500)
    torch.testing.assert_close(rise[:, 0], 0.01**2 * values.sum(dim=1) / 2, rtol=0.15, atol=0.0)


def test_the_same_draws_serve_one_network_and_many(two):
    ensemble, x, y = two
    together = noise_sensitivity(ensemble, x, y, [0.1, 0.5], relative=True, n_draws=3, seed=4)
    for i in range(2):
        alone = noise_sensitivity(ensemble.member(i), x, y, [0.1, 0.5], relative=True, n_draws=3, seed=4)
        torch.testing.assert_close(alone[0], together[i])
    other = noise_sensitivity(ensemble, x, y, [0.1, 0.5], relative=True, n_draws=3, seed=5)
    assert not torch.allclose(other, together)


def test_noise_of_no_strength_or_on_nothing_costs_nothing(two):
    ensemble, x, y = two
    nothing = {"1.weight": torch.zeros(5, 4, dtype=torch.bool)}
    assert not noise_sensitivity(ensemble, x, y, [0.0]).any()
    assert not noise_sensitivity(ensemble, x, y, [0.5], kept=nothing, n_draws=2).any()
    assert noise_sensitivity(ensemble, x, y, [0.5], kept={"1.weight": ~nothing["1.weight"]}).all()


def test_the_networks_are_left_as_they_were(two):
    ensemble, x, y = two
    before = ensemble.state_dict()
    noise_sensitivity(ensemble.train(), x, y, [0.5], n_draws=1)
    assert ensemble.training
    assert all(torch.equal(t, before[name]) for name, t in ensemble.state_dict().items())


def test_bad_input_is_refused_before_any_work(two):
    ensemble, x, y = two
    with pytest.raises(ValueError, match=r"0 or above and finite, at least one; got \[-0.1\]"):
        noise_sensitivity(ensemble, x, y, [-0.1])
    with pytest.raises(ValueError, match=r"at least one; got \[\]"):
        noise_sensitivity(ensemble, x, y, [])
    with pytest.raises(ValueError, match="n_draws must be a whole number, 1 or above; got 0"):
        noise_sensitivity(ensemble, x, y, [0.1], n_draws=0)
    with pytest.raises(ValueError, match="no network's parameter is called 'weight'"):
        noise_sensitivity(ensemble, x, y, [0.1], kept={"weight": torch.ones(5, 4, dtype=torch.bool)})
    with pytest.raises(ValueError, match="must be bool"):
        noise_sensitivity(ensemble, x, y, [0.1], kept={"1.weight": torch.ones(5, 4)})
    with pytest.raises(ValueError, match="no examples"):
        noise_sensitivity(ensemble, x[:0], y[:0], [0.1])
    with pytest.raises(ValueError, match="network 0 is nan even without noise"):
        noise_sensitivity(ensemble, x * float("nan"), y, [0.1])
