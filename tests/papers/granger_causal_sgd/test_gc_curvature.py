"""Curvature and noise: explicit Hessians of small networks, interlacing, negative curvature, quadratic losses."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.func import functional_call, hessian
from torch.nn.functional import cross_entropy

from repro.learn import Ensemble, initialization, perceptron
from repro.papers.granger_causal_sgd import curvature
from repro.papers.granger_causal_sgd.curvature import Hessian, eigenvalues, noise_sensitivity

N = 4 * 5 + 5 + 5 * 4 + 4  # 49 parameters


@pytest.fixture(scope="module")
def three():
    members = []
    for seed in range(3):
        with initialization(seed):
            members.append(perceptron((4, 5, 4), activation="tanh").double())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 40, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 4, (3, 40), generator=generator)
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


def top(matrix, n):
    return torch.linalg.eigvalsh(matrix).flip(0)[:n]


def negative(outputs, targets):
    return -cross_entropy(outputs, targets, reduction="none")


# --- Hessians -------------------------------------------------------------------------------------------------


def test_products_equal_the_explicit_matrix(three):
    ensemble, x, y = three
    v = torch.randn(3, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    product = Hessian(ensemble, x, y, per_member=True).matvec(v)
    for i in range(3):
        torch.testing.assert_close(product[i], explicit(ensemble, x, y, i) @ v[i], rtol=1e-10, atol=1e-12)


def test_all_eigenvalues_of_a_small_network_and_of_many_at_once(three):
    ensemble, x, y = three
    values, _ = eigenvalues(Hessian(ensemble, x, y, per_member=True), N, tolerance=1e-9)
    largest, _ = eigenvalues(Hessian(ensemble, x, y, per_member=True), tolerance=1e-9)
    for i in range(3):
        torch.testing.assert_close(values[i], top(explicit(ensemble, x, y, i), N), atol=1e-8, rtol=1e-8)
        alone, _ = eigenvalues(Hessian(ensemble.member(i), x[i], y[i]), tolerance=1e-9)
        torch.testing.assert_close(alone[0], largest[i], rtol=1e-7, atol=1e-9)


def test_the_largest_agree_with_scipy_and_their_residuals_bound_the_error(three):
    ensemble, x, y = three
    values, residuals = eigenvalues(Hessian(ensemble, x, y, per_member=True), 10)
    for i in range(3):
        matrix = explicit(ensemble, x, y, i).numpy()
        operator = LinearOperator(matrix.shape, matvec=lambda v, m=matrix: m @ v)
        reference = eigsh(operator, 10, which="LA")[0][::-1]
        error = np.abs(values[i].numpy() - reference)
        assert (error <= residuals[i].numpy() + 1e-9).all()
        assert (error <= 1e-4 * reference[0]).all()


def quadratic(curvatures):
    """Example k sees weight k alone, and its loss is half a parabola of that curvature."""
    curvatures = torch.tensor(curvatures, dtype=torch.float64)
    n = len(curvatures)
    loss = lambda outputs, targets: n * curvatures[targets] * outputs[:, 0] ** 2 / 2  # noqa: E731
    return Hessian(
        torch.nn.Linear(n, 1, bias=False).double(),
        torch.eye(n, dtype=torch.float64),
        torch.arange(n),
        loss=loss,
    )


def test_negative_curvature_of_larger_size_is_not_taken_for_the_largest(three):
    values, _ = eigenvalues(quadratic([-5.0, -4.0, 1.0]))
    assert float(values[0, 0]) == pytest.approx(1.0, rel=1e-6)
    ensemble, x, y = three
    values, _ = eigenvalues(Hessian(ensemble, x, y, per_member=True, loss=negative), tolerance=1e-3)
    for i in range(3):
        spectrum = top(-explicit(ensemble, x, y, i), N)
        assert abs(spectrum[-1]) > 1.5 * spectrum[0] > 0, "the power method would not fail here"
        assert float(values[i]) == pytest.approx(float(spectrum[0]), rel=1e-3)


def test_a_subspace_that_is_complete_is_left_for_a_fresh_direction():
    """Equal eigenvalues: one vector spans all that its products reach, and the others must still be found."""
    curvatures = [2.0, 2.0, 2.0, 2.0, -7.0, -7.0]
    assert eigenvalues(quadratic(curvatures), 6)[0][0].tolist() == pytest.approx(curvatures, rel=1e-12)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.2, 0.9))
def test_a_restricted_hessian_has_no_larger_eigenvalue(three, seed, density):
    ensemble, x, y = three
    generator = torch.Generator().manual_seed(seed)
    kept = {n: torch.rand(p.shape, generator=generator) < density for n, p in ensemble.parameters.items()}
    kept["1.weight"][:, 0, 0] = True
    full, _ = eigenvalues(Hessian(ensemble, x, y, per_member=True), tolerance=1e-9)
    part, _ = eigenvalues(Hessian(ensemble, x, y, kept=kept, per_member=True), tolerance=1e-9)
    assert (part <= full + 1e-8).all()


def test_restriction_is_the_submatrix(three):
    ensemble, x, y = three
    kept = {"1.weight": torch.arange(20).view(5, 4) % 3 != 0}
    operator = Hessian(ensemble, x, y, parameters=["1.weight"], kept=kept, per_member=True)
    values, _ = eigenvalues(operator, 2, tolerance=1e-10)
    chosen = torch.cat([kept["1.weight"].flatten(), torch.zeros(N - 20, dtype=torch.bool)])
    for i in range(3):
        wanted = top(explicit(ensemble, x, y, i)[chosen][:, chosen], 2)
        torch.testing.assert_close(values[i], wanted, rtol=1e-8, atol=1e-9)


def test_networks_that_keep_different_numbers_of_weights(three):
    """One network has no direction left long before the others are done, and its eigenvalues are all negative."""
    ensemble, x, y = three
    kept = {name: torch.ones(p.shape, dtype=torch.bool) for name, p in ensemble.parameters.items()}
    for mask in kept.values():
        mask[0] = False
    kept["1.weight"][0, 0, :3] = True
    operator = Hessian(ensemble, x, y, loss=negative, kept=kept, per_member=True)
    assert operator.n_kept.tolist() == [3, N, N]
    values, _ = eigenvalues(operator, 3, tolerance=1e-9)
    chosen = torch.cat([kept[name][0].flatten() for name in ensemble.parameters])
    for i, wanted in enumerate([-explicit(ensemble, x, y, i) for i in range(3)]):
        wanted = wanted[chosen][:, chosen] if i == 0 else wanted
        torch.testing.assert_close(values[i], top(wanted, 3), rtol=1e-7, atol=1e-9)


def test_convolutions_and_batch_normalization_in_evaluation_mode():
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(8, 3)
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 1, 4, 4, generator=generator), torch.randint(0, 3, (20,), generator=generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    module(x)  # running statistics other than those of the data
    before = {name: t.clone() for name, t in module.state_dict().items()}
    operator = Hessian(module, x, y)
    v = torch.randn(1, operator.n, generator=generator, dtype=torch.float64)
    product = operator.matvec(v)
    assert module.training
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    matrix = explicit(Ensemble([module.eval().double()]), x.double()[None], y[None], 0)
    torch.testing.assert_close(product[0], matrix @ v[0], rtol=1e-10, atol=1e-12)


def test_stopping_early_is_said(three, monkeypatch):
    ensemble, x, y = three
    monkeypatch.setattr(curvature, "_MOST_PRODUCTS", 3)
    with pytest.warns(RuntimeWarning, match="stopped at 3 products"):
        _, residuals = eigenvalues(Hessian(ensemble, x, y, per_member=True), tolerance=1e-9)
    assert (residuals > 0).all()


# --- noise ----------------------------------------------------------------------------------------------------

X = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
WEIGHT = torch.tensor([[2.0, -0.5]], dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.1, 3.0])
@pytest.mark.parametrize(
    ("kept", "rise"), [((True, True), 1 * 2.0**2 + 9 * 0.5**2), ((True, False), 1 * 2.0**2)]
)
def test_a_quadratic_rises_by_half_its_weighted_trace(sigma, kept, rise, monkeypatch):
    monkeypatch.setattr(curvature, "_DRAWS", 1000)
    module = torch.nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        module.weight.copy_(WEIGHT)

    def squares(outputs, targets):
        """Zero at the weights; the Hessian of the mean is diagonal, 1 and 9."""
        return (outputs[:, 0] - (X @ WEIGHT[0])[targets]) ** 2

    mask = {"weight": torch.tensor([kept])}
    found = noise_sensitivity(module, X, torch.arange(2), sigma, kept=mask, loss=squares)
    assert float(found) == pytest.approx(sigma**2 * rise / 2, rel=0.15)


def test_little_noise_agrees_with_the_curvature_of_each_network(three, monkeypatch):
    monkeypatch.setattr(curvature, "_DRAWS", 400)
    ensemble, x, y = three
    rise = noise_sensitivity(ensemble, x, y, 0.01, per_member=True)
    for i in range(3):
        squares = torch.cat([p[i].detach().flatten() for p in ensemble.parameters.values()]).square()
        wanted = 0.01**2 * float((explicit(ensemble, x, y, i).diagonal() * squares).sum()) / 2
        assert float(rise[i]) == pytest.approx(wanted, rel=0.25)


def test_the_same_draws_serve_one_network_and_many_and_all_are_left_as_they_were(three):
    ensemble, x, y = three
    before = ensemble.state_dict()
    together = noise_sensitivity(ensemble.train(), x, y, 0.3, per_member=True)
    assert ensemble.training
    assert all(torch.equal(t, before[name]) for name, t in ensemble.state_dict().items())
    for i in range(3):
        torch.testing.assert_close(noise_sensitivity(ensemble.member(i), x[i], y[i], 0.3)[0], together[i])
    nothing = {"1.weight": torch.zeros(5, 4, dtype=torch.bool)}
    assert not noise_sensitivity(ensemble, x, y, 0.0, per_member=True).any()
    assert not noise_sensitivity(ensemble, x, y, 0.5, kept=nothing, per_member=True).any()


def test_bad_input_is_refused_before_any_work(three):
    ensemble, x, y = three
    wide, none = ({"1.weight": torch.zeros(5, n, dtype=torch.bool)} for n in (5, 4))
    for call in (Hessian, partial(noise_sensitivity, sigma=0.1)):
        for data, kept, message in (
            ((x, y), wide, r"must be bool of shape \(5, 4\)"),
            ((x, y), {"weight": none["1.weight"]}, "parameter is called 'weight'"),
            ((x[:, :0], y[:, :0]), None, "no examples"),
            ((x, y[:, :-1]), None, r"inputs must be \(S, n, ...\) and classes \(n,\)"),
            ((x * float("nan"), y), None, "loss of network 0 is nan"),
        ):
            with pytest.raises(ValueError, match=message):
                call(ensemble, *data, kept=kept, per_member=True)
    with pytest.raises(TypeError, match="got a list"):
        Hessian([], x, y)
    with pytest.raises(ValueError, match="nothing is kept of network 0"):
        Hessian(ensemble, x, y, parameters=["1.weight"], kept=none, per_member=True)
    operator = Hessian(ensemble, x, y, per_member=True)
    with pytest.raises(ValueError, match=f"1 and the {N} coordinates"):
        eigenvalues(operator, N + 1)
    with pytest.raises(ValueError, match=r"v must be \(3, 49\)"):
        operator.matvec(torch.zeros(3, 7, dtype=torch.float64))


def test_layers_that_draw_in_training_do_nothing_in_evaluation_mode():
    dropout, first, last = torch.nn.Dropout(0.9), torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)
    inner = torch.nn.Sequential(dropout, torch.nn.RReLU(0.1, 0.3), torch.nn.AlphaDropout(0.5), dropout)
    noisy = torch.nn.Sequential(first, inner, last)
    still = torch.nn.Sequential(first, torch.nn.Sequential(torch.nn.LeakyReLU(0.2)), last)
    generator = torch.Generator().manual_seed(0)
    x, v = torch.randn(20, 4, generator=generator), torch.randn(1, 43, generator=generator)
    y = torch.arange(20) % 3
    torch.testing.assert_close(Hessian(noisy, x, y).matvec(v), Hessian(still, x, y).matvec(v))
    assert noisy.training
    assert noisy[1][0] is dropout


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16])
def test_classes_of_any_whole_type(dtype):
    module = torch.nn.Linear(4, 3)
    x, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 1, 1])
    v = torch.ones(1, sum(p.numel() for p in module.parameters()))
    assert torch.equal(Hessian(module, x, y.to(dtype)).matvec(v), Hessian(module, x, y).matvec(v))
    assert torch.equal(noise_sensitivity(module, x, y.to(dtype), 0.1), noise_sensitivity(module, x, y, 0.1))
