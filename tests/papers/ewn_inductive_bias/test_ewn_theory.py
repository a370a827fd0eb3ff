"""The equations against autograd, a thousand digits, closed forms and slow loops."""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repro.papers.ewn_inductive_bias import experiments, measures, theory
from repro.papers.ewn_inductive_bias.method import METHODS

LENGTHS = st.lists(st.floats(0.01, 100), min_size=2, max_size=20)


def random_matrices(seed=0, shapes=((4, 3), (1, 4))):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape) for shape in shapes]


# --- three ways to write weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["swn", "ewn"])
@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_a_small_step_moves_the_weights_as_the_flow_says_up_to_second_order(method, radius):
    weights, gradient = random_matrices(0), random_matrices(1)
    parameters = theory.split_weights(weights, method, radius)
    pulled = theory.pull_back(parameters, gradient, method)
    predicted = theory.precondition(weights, gradient, method, radius)

    def miss(h):
        moved = theory.join_weights([p - h * g for p, g in zip(parameters, pulled, strict=True)], method)
        return max(np.abs(m - w + h * d).max() for m, w, d in zip(moved, weights, predicted, strict=True))

    assert miss(0) < 1e-15
    assert miss(1e-4) < 1e-6
    assert miss(1e-3) / miss(5e-4) == pytest.approx(4, rel=0.02)


# --- losses and networks ----------------------------------------------------------------------------------------


def exact_log_loss(margins, loss):
    """Log-loss and slopes from the definition, with enough digits."""
    with mpmath.workdps(1000):
        q = [mpmath.mpf(m) for m in margins]
        losses = [mpmath.exp(-m) if loss == "exponential" else mpmath.log(1 + mpmath.exp(-m)) for m in q]
        slopes = [mpmath.exp(-m) if loss == "exponential" else 1 / (1 + mpmath.exp(m)) for m in q]
        total = mpmath.fsum(losses)
        return float(mpmath.log(total)), [float(-s / total) for s in slopes]


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("shift", [-5.0, 0.0, 20.0, 29.5, 398.0, 2000.0])
def test_log_losses_against_a_thousand_digits(shift, loss):
    for margins in ([shift], [shift, shift + 0.5, shift + 2.0]):
        n = len(margins)
        one_weight_each = theory.BinaryProblem("linear", np.eye(n), np.ones(n), loss)
        value, [slopes] = one_weight_each.gradient([np.array([margins])])
        expected, expected_slopes = exact_log_loss(margins, loss)
        assert value == pytest.approx(expected, rel=1e-13, abs=1e-15)
        assert slopes[0] == pytest.approx(expected_slopes, rel=1e-12)


def random_weights(depth):
    widths = {1: (3, 1), 2: (3, 5, 1), 3: (3, 4, 5, 1), 4: (3, 4, 4, 3, 1)}[depth]
    return random_matrices(0, [(b, a) for a, b in pairwise(widths)])


def problem(activation, loss="logistic"):
    x = np.random.default_rng(1).normal(size=(6, 3))
    return theory.BinaryProblem(activation, x, np.array([1.0, -1, 1, -1, 1, 1]), loss)


def autograd_log_loss(p, matrices):
    """The same network and loss written with torch."""
    signal = torch.tensor(p.x).T
    for i, matrix in enumerate(matrices):
        signal = matrix @ signal
        if i + 1 < len(matrices) and p.activation == "squared_relu":
            signal = signal.clamp(min=0) ** 2
    q = torch.tensor(p.y) * signal[0]
    return torch.logsumexp(torch.nn.functional.softplus(-q).log() if p.loss == "logistic" else -q, 0)


@pytest.mark.parametrize("activation", ["linear", "squared_relu"])
@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_gradient_is_autograds(activation, loss, depth):
    p, weights = problem(activation, loss), random_weights(depth)
    tensors = [torch.tensor(w, requires_grad=True) for w in weights]
    expected = autograd_log_loss(p, tensors)
    expected.backward()
    value, gradient = p.gradient(weights)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    for g, t in zip(gradient, tensors, strict=True):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("activation", "base"), [("linear", 1), ("squared_relu", 2)])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_eulers_identity_layer_by_layer(activation, base, depth):
    # exponential loss: <w_l, grad_l log L> = -d_l * sum_i share_i q_i, the same sum for every layer
    p, weights = problem(activation, "exponential"), random_weights(depth)
    inner = [np.vecdot(w, g).sum() for w, g in zip(weights, p.gradient(weights)[1], strict=True)]
    np.testing.assert_allclose(inner, [inner[-1] * base ** (depth - 1 - i) for i in range(depth)])


# --- two weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [(1.0, 1.0), (3.0, 1.0), (1.0, 5.0), (1.0, 2.0), (1.0, 2.0 + 1e-9)])
def test_exact_points_lie_on_the_curve_at_the_right_loss(start):
    z = np.array([2 * start[0] + start[1], 10.0, 50.0, 1e4])
    w1, w2 = theory.exact_point(start, z, "ewn")
    np.testing.assert_allclose(2 * w1 + w2, z, rtol=1e-12)
    np.testing.assert_allclose(theory.conserved(w1, w2), theory.conserved(*start), atol=1e-12)
    np.testing.assert_allclose([w1[0], w2[0]], start, rtol=1e-9)
    if (limit := theory.loser_limit(start)) < 100:
        assert min(w1[-1], w2[-1]) == pytest.approx(limit, rel=2e-3)


def test_exact_points_refuse_what_has_no_closed_form():
    with pytest.raises(ValueError, match="'swn'"):
        theory.exact_point((1.0, 1.0), 50.0, "swn")
    with pytest.raises(ValueError, match="two positive weights"):
        theory.exact_point((1.0, -1.0), 50.0, "ewn")


# --- laws and rates ---------------------------------------------------------------------------------------------


def test_node_quantities_by_hand():
    weights = [np.array([[3.0, 4.0], [1.0, 0.0], [1e-3, 0.0]]), np.array([[0.0, 2.0]])]
    gradients = [np.array([[-6.0, -8.0], [0.0, 0.0], [-1e-200, 0.0]]), np.array([[1.0, 1.0]])]
    found = experiments._nodes([w[None] for w in weights], [g[None] for g in gradients], seed=3)
    np.testing.assert_allclose(found["length"], [5, 1, 1e-3, 2])
    np.testing.assert_allclose(found["gradient_norm"], [10, 0, 0, np.sqrt(2)])
    # neither a dead unit nor a gradient too small to square has a direction
    np.testing.assert_allclose(found["cosine"], [-1, np.nan, np.nan, 1 / np.sqrt(2)])
    assert found[["seed", "layer", "node"]].to_numpy().tolist() == [
        [3, 0, 0],
        [3, 0, 1],
        [3, 0, 2],
        [3, 1, 3],
    ]


@given(LENGTHS, st.sampled_from([-1, 1]), st.floats(0.1, 10))
def test_spread_is_zero_exactly_on_the_law(w, sign, scale):
    w = np.array(w)
    g = scale * w**-sign
    assert measures._spread(w, g, sign) == pytest.approx(0, abs=1e-12)
    assert measures._spread(w, g, -sign) == pytest.approx(2 * np.ptp(np.log(w)), abs=1e-12)
    assert np.isnan(measures._spread(w[:1], g[:1], sign))


def later(r, c, method):
    """Two aligned nodes with constant gradient lengths c and 1, followed by Euler for a while."""
    w, g = np.array([r, 1.0]), np.array([c, 1.0])
    for _ in range(5):
        w = w + 1e-2 * g * (w**2 if method == "ewn" else 1.0)
    return w


@pytest.mark.parametrize("method", METHODS)
@given(r=st.floats(0.2, 5), c=st.floats(0.2, 5))
def test_the_sign_of_the_change_of_a_ratio_is_predicted_for_two_nodes(method, r, c):
    correct, pairs = measures._pair_predictions(
        np.array([r, 1.0]), np.array([c, 1.0]), later(r, c, method), method
    )
    balanced = abs(np.log(r * c)) <= 0.01 if method == "ewn" else abs(np.log(c / r)) <= 0.01
    assert pairs == (0 if balanced else 1)
    assert correct == pairs


def test_the_wrong_law_predicts_the_wrong_sign():
    # r = 2 and c = 0.8: EWN lets the longer node run away, plain flow shrinks the ratio
    two = np.array([2.0, 1.0]), np.array([0.8, 1.0]), later(2.0, 0.8, "ewn")
    assert measures._pair_predictions(*two, "ewn") == (1, 1)
    assert measures._pair_predictions(*two, "plain") == (0, 1)


@given(st.floats(-1, 3), st.floats(-50, 50))
def test_the_exponent_of_a_power_law_in_its_range(p, offset):
    z = np.linspace(10, 400, 391)
    log_rate = np.where(z < 50, 5.0, offset + p * np.log(z))
    assert theory.local_exponent(z, log_rate, 50, 300) == pytest.approx(p, abs=1e-9)
    assert np.isnan(theory.local_exponent(z, log_rate, 50, 401))  # a path that ends early
