"""The equations and flows against autograd, a thousand digits, closed forms and _conserved quantities."""

from itertools import islice, pairwise

import mpmath
import numpy as np
import pytest
import torch

from repro.papers.ewn_inductive_bias import experiments, theory
from repro.papers.ewn_inductive_bias.method import _METHODS
from repro.papers.ewn_inductive_bias.theory import _euler_steps, loss_clock, weight_flow
from repro.papers.ewn_inductive_bias.training import _log_loss


def random_matrices(seed=0, shapes=((4, 3), (1, 4))):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("method", ["swn", "ewn"])
@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_a_small_step_moves_the_weights_as_the_flow_says_up_to_second_order(method, radius):
    weights, gradient = random_matrices(0), random_matrices(1)
    parameters = theory._split(weights, method, radius)
    pulled = theory._pull_back(parameters, gradient, method)
    predicted = theory._precondition(weights, gradient, method, radius)

    def miss(h):
        moved = theory._join([p - h * g for p, g in zip(parameters, pulled, strict=True)], method)
        return max(np.abs(m - w + h * d).max() for m, w, d in zip(moved, weights, predicted, strict=True))

    assert miss(0) < 1e-15
    for v, g in zip(parameters[1::2], pulled[1::2], strict=True):
        np.testing.assert_allclose(np.vecdot(v, g), 0, atol=1e-14)  # so that no flow changes the length of v
    assert miss(1e-4) < 1e-6
    assert miss(1e-3) / miss(5e-4) == pytest.approx(4, rel=0.02)


# --- losses and networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("shift", [-5.0, 0.0, 29.5, 398.0, 2000.0])
@pytest.mark.parametrize("others", [(), (0.5, 2.0)])
def test_log_losses_against_a_thousand_digits(shift, loss, others):
    margins = [shift, *(shift + other for other in others)]
    one_weight_each = theory.BinaryProblem("linear", np.eye(len(margins)), np.ones(len(margins)), loss)
    value, [slopes] = one_weight_each.gradient([np.array([margins])])
    with mpmath.workdps(1000):
        small = [mpmath.exp(-mpmath.mpf(m)) for m in margins]
        total = mpmath.fsum(small if loss == "exponential" else [mpmath.log(1 + s) for s in small])
        expected = [-(s if loss == "exponential" else s / (1 + s)) / total for s in small]
        assert value == pytest.approx(float(mpmath.log(total)), rel=1e-13, abs=1e-15)
    assert slopes[0] == pytest.approx([float(slope) for slope in expected], rel=1e-12)
    scores, ones = torch.tensor(margins, dtype=torch.float64).unsqueeze(1), torch.ones(len(margins)).double()
    by_torch, slope = _log_loss(scores, ones, loss)
    assert float(by_torch) == pytest.approx(float(value), rel=1e-13, abs=1e-13)
    assert slope.flatten().tolist() == pytest.approx(slopes[0].tolist(), rel=1e-12)
    in_single, slope = _log_loss(scores.float(), ones.float(), loss)  # summed in float64
    assert (in_single.dtype, slope.dtype) == (torch.float64, torch.float32)
    assert float(in_single) == pytest.approx(float(value), rel=1e-6, abs=1e-5)
    if loss == "logistic":  # that of the difference of two classes, but for the mean
        both = torch.cat([torch.zeros_like(scores), scores], dim=1)
        mean = float(_log_loss(both, ones.long(), "cross-entropy")[0])
        assert mean == pytest.approx(value - np.log(len(margins)), rel=1e-13, abs=1e-13)


def problem(activation, loss, depth):
    widths = {1: (3, 1), 2: (3, 5, 1), 4: (3, 4, 4, 3, 1)}[depth]
    x = np.random.default_rng(1).normal(size=(6, 3))
    y = np.array([1.0, -1, 1, -1, 1, 1])
    shapes = [(b, a) for a, b in pairwise(widths)]
    return theory.BinaryProblem(activation, x, y, loss), random_matrices(0, shapes)


@pytest.mark.parametrize(("activation", "base"), [("linear", 1), ("squared_relu", 2)])
@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_gradient_is_autograds_and_obeys_eulers_identity(activation, base, loss, depth):
    p, weights = problem(activation, loss, depth)
    tensors, signal = [torch.tensor(w, requires_grad=True) for w in weights], torch.tensor(p.x).T
    for i, matrix in enumerate(tensors):
        signal = matrix @ signal
        if i + 1 < depth and activation == "squared_relu":
            signal = signal.clamp(min=0) ** 2
    q = torch.tensor(p.y) * signal[0]
    expected = torch.logsumexp(torch.nn.functional.softplus(-q).log() if loss == "logistic" else -q, 0)
    expected.backward()
    value, gradient = p.gradient(weights)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    for g, t in zip(gradient, tensors, strict=True):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-9, atol=1e-12)
    # <w_l, grad_l> is the degree of the layer times a sum that is the same for every layer
    inner = [np.vecdot(w, g).sum() for w, g in zip(weights, gradient, strict=True)]
    np.testing.assert_allclose(inner, [inner[-1] * base ** (depth - 1 - i) for i in range(depth)])


# --- two weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [(1.0, 1.0), (3.0, 1.0), (1.0, 5.0), (1.0, 2.0), (1.0, 2.0 + 1e-9)])
def test_exact_points_lie_on_the_curve_at_the_right_loss(start):
    z = np.array([2 * start[0] + start[1], 10.0, 50.0, 1e4])
    w1, w2 = theory.exact_point(start, z, "ewn")
    k = theory._conserved(*start)
    np.testing.assert_allclose(2 * w1 + w2, z, rtol=1e-12)
    np.testing.assert_allclose(theory._conserved(w1, w2), k, atol=1e-12)
    np.testing.assert_allclose([w1[0], w2[0]], start, rtol=1e-9)
    # end points of an independent implementation
    ends = {(1.0, 1.0): [24.040, 1.920], (1.0, 5.0): [1.556, 46.888]}
    np.testing.assert_allclose([w1[2], w2[2]], ends.get(start, [w1[2], w2[2]]), atol=6e-4)
    if abs(k) > 0.01:  # the loser stops at 1/K or 1/(2|K|)
        assert min(w1[-1], w2[-1]) == pytest.approx(1 / k if k > 0 else -1 / (2 * k), rel=2e-3)


# --- flows ------------------------------------------------------------------------------------------------------

TIMES = np.linspace(0.0, 3.0, 13)
X = np.array([[1.0, 1.0], [1.7, 1.1], [-1.0, 1.0], [-1.5, -1.4]])
GRADIENT = theory.BinaryProblem("squared_relu", X, np.array([-1.0, -1, 1, 1]), "logistic").gradient
# Φ = w, loss e^{-w}
ONE_WEIGHT = theory.BinaryProblem("linear", np.array([[1.0]]), np.array([1.0]), "exponential").gradient


@pytest.fixture
def weights():
    generator = np.random.default_rng(3)
    return [generator.uniform(-0.7, 0.7, (5, 2)), generator.uniform(-0.5, 0.5, (1, 5))]


@pytest.mark.parametrize("method", _METHODS)
def test_layers_keep_their_balance(weights, method):
    """Sums over layers, over the layer's degree, of squared lengths (EWN: of log-lengths) move by the same amount."""
    squared = [np.vecdot(w, w) for w in weight_flow(GRADIENT, method, weights, TIMES)]
    hidden, output = ((np.log(s) / 2 if method == "ewn" else s).sum(axis=-1) for s in squared)
    assert np.ptp(output) > 0.05  # the terms move, their difference does not
    assert np.ptp(hidden / 2 - output) < 1e-9
    assert np.ptp(hidden - output) > 0.01


def test_one_weight_in_closed_form():
    # descent: w ← w + h e^{-w}; flow: e^w = e^{w0} + t
    start = [np.array([[0.5]])]
    (*_, log_loss), (second, *_) = islice(_euler_steps(ONE_WEIGHT, "plain", start, 0.1), 2)
    assert second[0][0, 0] == pytest.approx(0.5 + 0.1 * np.exp(-0.5))
    assert log_loss == pytest.approx(-0.5)
    (path,) = weight_flow(ONE_WEIGHT, "plain", start, TIMES)
    np.testing.assert_allclose(path[:, 0, 0], np.log(np.exp(0.5) + TIMES), rtol=1e-10)
    # with z as the clock: plain w = z, rate 1; EWN rate w² = z², the bound met with equality (L = n = 1)
    z = np.append(np.linspace(1.0, 100.0, 34), [700.0, 2000.0])
    ewn, plain = (loss_clock(ONE_WEIGHT, method, start, z) for method in ("ewn", "plain"))
    np.testing.assert_allclose(plain.weights[0][:, 0, 0], plain.z, rtol=1e-9)
    np.testing.assert_allclose(plain.log_rate, 0.0, atol=1e-12)
    np.testing.assert_allclose(ewn.log_rate, 2 * np.log(ewn.z), atol=1e-9)
    assert experiments._local_exponent(ewn.z, ewn.log_rate, 10, 100) == pytest.approx(2, abs=1e-9)
    assert np.isnan(experiments._local_exponent(ewn.z, ewn.log_rate, 10, 2001))  # a path that ends early


@pytest.mark.parametrize("method", _METHODS)
def test_the_loss_is_its_own_clock_and_path_and_rate_are_those_of_ordinary_time(weights, method):
    path = loss_clock(GRADIENT, method, weights, np.arange(-50.0, 301.0, 10.0))
    assert path.reached
    assert path.z[0] == pytest.approx(-float(GRADIENT(weights)[0]))  # lower values are left out
    assert path.z[-1] == 300.0
    np.testing.assert_allclose(-GRADIENT(path.weights)[0], path.z, atol=1e-5)
    times = np.linspace(0.0, 5.0, 501)
    flow = weight_flow(GRADIENT, method, weights, times)
    z = -GRADIENT(flow)[0]
    clocked = loss_clock(GRADIENT, method, weights, z[1:])
    for own, other in zip(clocked.weights, flow, strict=True):
        np.testing.assert_allclose(own, other, atol=1e-6)
    slope = np.gradient(np.exp(z), times)  # of 1/L
    np.testing.assert_allclose(clocked.log_rate[5:-5], np.log(slope[5:-5]), atol=1e-2)


def test_a_network_that_cannot_fit_stalls_and_says_so():
    # One hidden unit that sees a single point, and no other unit: three losses stay at log 2.
    dead = loss_clock(GRADIENT, "plain", [np.array([[-0.5, -0.5]]), np.array([[0.7]])], np.arange(0.0, 11.0))
    assert not dead.reached
    assert dead.z.max() < 0
    # All units dead: no gradient at all.
    half = theory.BinaryProblem("squared_relu", np.array([[0.0, 1.0]]), np.array([1.0]), "logistic").gradient
    stuck = loss_clock(half, "ewn", [np.array([[0.0, -0.5]]), np.array([[0.7]])], np.arange(0.0, 11.0))
    assert (stuck.reached, stuck.z.size) == (False, 1)
