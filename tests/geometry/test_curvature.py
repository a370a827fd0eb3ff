"""Curvature: explicit Hessians of small networks, interlacing, negative curvature, noise in closed form."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.func import functional_call, hessian

from repro.geometry.curvature import Hessian, eigenvalues, noise_sensitivity, trace
from repro.learn import Ensemble, initialization, perceptron

SIZES = (4, 5, 4)
N = 4 * 5 + 5 + 5 * 4 + 4  # 49 parameters


@pytest.fixture(scope="module")
def three():
    members = []
    for seed in range(3):
        with initialization(seed):
            members.append(perceptron(SIZES, activation="tanh").double())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 40, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (3, 40), generator=generator)
    return Ensemble(members), x, y


def explicit(ensemble, x, y, i):
    """The full Hessian of member i, by automatic differentiation of everything at once."""
    member = ensemble.member(i)
    names = list(ensemble.parameters)
    shapes = [ensemble.parameters[n].shape[1:] for n in names]

    def loss(flat):
        parts = flat.split([s.numel() for s in shapes])
        named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return torch.nn.functional.cross_entropy(functional_call(member, named, (x[i],)), y[i])

    return hessian(loss)(torch.cat([ensemble.parameters[n][i].detach().flatten() for n in names]))


def test_products_equal_the_explicit_matrix(three):
    ensemble, x, y = three
    v = torch.randn(3, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    product = Hessian(ensemble, x, y, per_member=True).matvec(v)
    for i in range(3):
        torch.testing.assert_close(product[i], explicit(ensemble, x, y, i) @ v[i], rtol=1e-10, atol=1e-12)


def test_all_eigenvalues_of_a_small_network(three):
    ensemble, x, y = three
    found = eigenvalues(Hessian(ensemble, x, y, per_member=True), N, tolerance=1e-9)
    for i in range(3):
        expected = torch.linalg.eigvalsh(explicit(ensemble, x, y, i)).flip(0)
        torch.testing.assert_close(found.values[i], expected, atol=1e-8, rtol=1e-8)


def test_the_largest_agrees_with_scipy_and_its_residual_bounds_the_error(three):
    ensemble, x, y = three
    operator = Hessian(ensemble, x, y, per_member=True)
    found = eigenvalues(operator, 3)
    assert found.n_products < N
    for i in range(3):
        matrix = explicit(ensemble, x, y, i).numpy()
        reference = eigsh(LinearOperator(matrix.shape, matvec=lambda v, m=matrix: m @ v), 3, which="LA")[0][
            ::-1
        ]
        error = np.abs(found.values[i].numpy() - reference)
        assert (error <= found.residuals[i].numpy() + 1e-9).all()


def test_negative_curvature_of_larger_size_is_not_taken_for_the_largest():
    """L = softplus-free toy: one linear layer whose loss is concave along most directions."""
    module = torch.nn.Linear(3, 1, bias=False).double()
    ensemble = Ensemble([module])
    x = torch.eye(3, dtype=torch.float64)[None].repeat(1, 1, 1)[0]
    scale = torch.tensor([-5.0, -4.0, 1.0], dtype=torch.float64)

    def loss(outputs, targets):  # example k sees weight k alone
        return 3 * scale[targets] * outputs[:, 0] ** 2 / 2

    found = eigenvalues(Hessian(ensemble, x, torch.arange(3), loss=loss), 1)
    assert float(found.values[0, 0]) == pytest.approx(1.0, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 0.9))
def test_a_restricted_hessian_has_no_larger_eigenvalue(three, seed, density):
    ensemble, x, y = three
    generator = torch.Generator().manual_seed(seed)
    kept = {n: torch.rand(p.shape, generator=generator) < density for n, p in ensemble.parameters.items()}
    kept["1.weight"][:, 0, 0] = True
    full = eigenvalues(Hessian(ensemble, x, y, per_member=True), tolerance=1e-9).values
    part = eigenvalues(Hessian(ensemble, x, y, kept=kept, per_member=True), tolerance=1e-9).values
    assert (part <= full + 1e-8).all()


def test_restriction_is_the_submatrix(three):
    ensemble, x, y = three
    kept = {"1.weight": torch.arange(20).view(5, 4) % 3 != 0}
    found = eigenvalues(
        Hessian(ensemble, x, y, parameters=["1.weight"], kept=kept, per_member=True), 2, tolerance=1e-10
    )
    chosen = torch.cat([kept["1.weight"].flatten(), torch.zeros(N - 20, dtype=torch.bool)])
    for i in range(3):
        matrix = explicit(ensemble, x, y, i)[chosen][:, chosen]
        expected = torch.linalg.eigvalsh(matrix).flip(0)[:2]
        torch.testing.assert_close(found.values[i], expected, rtol=1e-8, atol=1e-9)


def test_many_networks_at_once_equal_each_alone(three):
    ensemble, x, y = three
    together = eigenvalues(Hessian(ensemble, x, y, per_member=True), tolerance=1e-9).values
    for i in range(3):
        alone = eigenvalues(Hessian(ensemble.member(i), x[i], y[i]), tolerance=1e-9).values
        torch.testing.assert_close(alone[0], together[i], rtol=1e-7, atol=1e-9)


def test_trace_within_its_standard_error(three):
    ensemble, x, y = three
    value, error = trace(Hessian(ensemble, x, y, per_member=True), n_probes=400)
    for i in range(3):
        expected = float(explicit(ensemble, x, y, i).trace())
        assert abs(float(value[i]) - expected) < 4 * float(error[i])
        assert float(error[i]) < 0.1 * abs(expected)


def test_small_absolute_noise_costs_half_the_trace(three):
    ensemble, x, y = three
    sigma = 0.01
    rise = noise_sensitivity(ensemble, x, y, [sigma], n_draws=3000, per_member=True)
    for i in range(3):
        expected = sigma**2 * float(explicit(ensemble, x, y, i).trace()) / 2
        assert float(rise[i, 0]) == pytest.approx(expected, rel=0.15)


def test_relative_noise_on_a_quadratic_has_its_closed_form():
    """Squared error of a linear layer at its minimum: rise = sigma^2 / 2 * sum_k h_k w_k^2."""
    module = torch.nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[2.0, -0.5]]))
    x = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    at_minimum = x @ torch.tensor([2.0, -0.5], dtype=torch.float64)

    def loss(outputs, targets):
        return (outputs[:, 0] - at_minimum[targets]) ** 2

    rise = noise_sensitivity(module, x, torch.arange(2), [0.1], relative=True, n_draws=20_000, loss=loss)
    expected = 0.1**2 * (1 * 2.0**2 + 9 * 0.5**2) / 2
    assert float(rise[0, 0]) == pytest.approx(expected, rel=0.03)


def test_noise_leaves_pruned_weights_and_other_parameters_alone(three):
    ensemble, x, y = three
    nothing = {"1.weight": torch.zeros(5, 4, dtype=torch.bool)}
    assert not noise_sensitivity(ensemble, x, y, [0.5], kept=nothing, n_draws=2, per_member=True).any()


def test_bad_input_is_refused_before_any_work(three):
    ensemble, x, y = three
    none = {"1.weight": torch.zeros(5, 4, dtype=torch.bool)}
    with pytest.raises(ValueError, match="no trained parameter is called 'weight'"):
        Hessian(ensemble, x, y, parameters=["weight"], per_member=True)
    with pytest.raises(ValueError, match="nothing is kept of network 0"):
        Hessian(ensemble, x, y, parameters=["1.weight"], kept=none, per_member=True)
    with pytest.raises(ValueError, match=r"must be bool of shape \(5, 4\)"):
        Hessian(ensemble, x, y, kept={"1.weight": torch.ones(4, 5, dtype=torch.bool)}, per_member=True)
    with pytest.raises(ValueError, match="no examples"):
        Hessian(ensemble, x[:, :0], y[:, :0], per_member=True)
    with pytest.raises(ValueError, match="is nan"):
        Hessian(ensemble, x * float("nan"), y, per_member=True)
    operator = Hessian(ensemble, x, y, per_member=True)
    with pytest.raises(ValueError, match=f"1 and the {N} coordinates"):
        eigenvalues(operator, N + 1)
    with pytest.raises(ValueError, match=r"v must be \(3, 49\)"):
        operator.matvec(torch.zeros(3, 7, dtype=torch.float64))
    with pytest.raises(ValueError, match="2 or above; got 1"):
        trace(operator, n_probes=1)
    with pytest.raises(ValueError, match="0 or above and finite"):
        noise_sensitivity(ensemble, x, y, [-0.1], per_member=True)
