"""Curvature: explicit Hessians of small networks, interlacing, negative curvature, precision, batches."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy.sparse.linalg import LinearOperator, eigsh
from torch.func import functional_call, hessian

from repro.geometry.curvature import Hessian, eigenvalues, trace
from repro.geometry.noise import noise_sensitivity
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
    found = eigenvalues(operator, 10)
    assert found.n_products < N
    for i in range(3):
        matrix = explicit(ensemble, x, y, i).numpy()
        reference = eigsh(LinearOperator(matrix.shape, matvec=lambda v, m=matrix: m @ v), 10, which="LA")[0][
            ::-1
        ]
        error = np.abs(found.values[i].numpy() - reference)
        assert (error <= found.residuals[i].numpy() + 1e-9).all()
        assert (error <= 1e-4 * reference[0]).all()


def _quadratic(x, curvatures):
    """Example k sees weight k alone, and its loss is half a parabola of that curvature."""
    module = torch.nn.Linear(len(x), 1, bias=False).double()

    def loss(outputs, targets):
        return len(x) * curvatures[targets] * outputs[:, 0] ** 2 / 2

    return Hessian(module, x, torch.arange(len(x)), loss=loss)


def test_negative_curvature_of_larger_size_is_not_taken_for_the_largest(three):
    scale = torch.tensor([-5.0, -4.0, 1.0], dtype=torch.float64)
    found = eigenvalues(_quadratic(torch.eye(3, dtype=torch.float64), scale))
    assert float(found.values[0, 0]) == pytest.approx(1.0, rel=1e-6)

    ensemble, x, y = three
    negative = Hessian(
        ensemble, x, y, per_member=True,
        loss=lambda o, t: -torch.nn.functional.cross_entropy(o, t, reduction="none"),
    )  # fmt: skip
    found = eigenvalues(negative, tolerance=1e-3).values[:, 0]
    for i in range(3):
        spectrum = torch.linalg.eigvalsh(-explicit(ensemble, x, y, i))
        assert abs(spectrum[0]) > 1.5 * spectrum[-1] > 0, "the power method would not fail here"
        assert float(found[i]) == pytest.approx(float(spectrum[-1]), rel=1e-3)


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


def test_a_subspace_that_is_complete_is_left_for_a_fresh_direction():
    """Equal eigenvalues: one vector spans all that its products reach, and the others must still be found."""
    x = torch.eye(6, dtype=torch.float64)
    curvatures = torch.tensor([2.0, 2.0, 2.0, 2.0, -7.0, -7.0], dtype=torch.float64)
    found = eigenvalues(_quadratic(x, curvatures), 6)
    torch.testing.assert_close(found.values, curvatures[None], rtol=1e-12, atol=1e-12)


def test_networks_that_keep_different_numbers_of_weights(three):
    """One network has no direction left long before the others are done, and its eigenvalues are all negative."""
    ensemble, x, y = three
    kept = {name: torch.ones(p.shape, dtype=torch.bool) for name, p in ensemble.parameters.items()}
    for mask in kept.values():
        mask[0] = False
    kept["1.weight"][0, 0, :3] = True

    def negative(outputs, targets):
        return -torch.nn.functional.cross_entropy(outputs, targets, reduction="none")

    operator = Hessian(ensemble, x, y, loss=negative, kept=kept, per_member=True)
    assert operator.n_kept.tolist() == [3, N, N]
    found = eigenvalues(operator, 3, tolerance=1e-9)
    chosen = torch.cat([kept[name][0].flatten() for name in ensemble.parameters])
    first = -explicit(ensemble, x, y, 0)[chosen][:, chosen]
    torch.testing.assert_close(found.values[0], torch.linalg.eigvalsh(first).flip(0), rtol=1e-8, atol=1e-10)
    for i in (1, 2):
        expected = torch.linalg.eigvalsh(-explicit(ensemble, x, y, i)).flip(0)[:3]
        torch.testing.assert_close(found.values[i], expected, rtol=1e-7, atol=1e-9)


def test_data_in_batches_give_the_same_products(three):
    ensemble, x, y = three
    v = torch.randn(3, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = Hessian(ensemble, x, y, per_member=True).matvec(v)
    batched = Hessian(ensemble, x, y, per_member=True, batch_size=17).matvec(v)
    torch.testing.assert_close(batched, whole, rtol=1e-12, atol=1e-14)
    shared = Hessian(ensemble, x[0], y[0], batch_size=17).matvec(v)
    torch.testing.assert_close(shared[0], whole[0], rtol=1e-12, atol=1e-14)


def test_single_precision_keeps_five_digits_of_the_largest(three):
    ensemble, x, y = three
    double = eigenvalues(Hessian(ensemble, x, y, per_member=True), tolerance=1e-5).values
    single = eigenvalues(Hessian(ensemble, x, y, per_member=True, dtype=torch.float32), tolerance=1e-5).values
    torch.testing.assert_close(single, double, rtol=1e-5, atol=0.0)


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

    ensemble = Ensemble([module.eval().double()])
    matrix = explicit(ensemble, x.double()[None], y[None], 0)
    torch.testing.assert_close(product[0], matrix @ v[0], rtol=1e-10, atol=1e-12)


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
@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "squared_error"])
def test_classes_of_any_whole_type(dtype, loss):
    module = torch.nn.Linear(4, 1 if loss == "logistic" else 3)
    x, y = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0, 1, 1])
    v = torch.ones(1, sum(p.numel() for p in module.parameters()))
    assert torch.equal(
        Hessian(module, x, y.to(dtype), loss=loss).matvec(v), Hessian(module, x, y, loss=loss).matvec(v)
    )
    assert torch.equal(
        noise_sensitivity(module, x, y.to(dtype), [0.1], loss=loss),
        noise_sensitivity(module, x, y, [0.1], loss=loss),
    )


def test_stopping_early_is_said(three):
    ensemble, x, y = three
    with pytest.warns(RuntimeWarning, match="stopped at 3 products"):
        found = eigenvalues(Hessian(ensemble, x, y, per_member=True), tolerance=1e-9, max_products=3)
    assert found.n_products == 3
    assert (found.residuals > 0).all()


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
    with pytest.raises(ValueError, match=r"no chosen parameter is called '3\.weight'"):
        Hessian(ensemble, x, y, parameters=["1.weight"], kept={"3.weight": none["1.weight"]}, per_member=True)
    with pytest.raises(ValueError, match=r"inputs must be \(S, n, ...\) and classes \(n,\)"):
        Hessian(ensemble, x, y[:, :-1], per_member=True)
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        Hessian(ensemble, x, y, per_member=True, batch_size=0)
    with pytest.raises(TypeError, match="got a list"):
        Hessian([], x, y)
    with pytest.raises(ValueError, match="tolerance must be above 0"):
        eigenvalues(operator, tolerance=0.0)
    with pytest.raises(ValueError, match="5 eigenvalues need as many products"):
        eigenvalues(operator, 5, max_products=4)
