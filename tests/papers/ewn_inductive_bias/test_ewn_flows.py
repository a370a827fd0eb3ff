"""Flows: closed forms, conserved quantities, the loss as its own clock (and see the experiments for E1 to E3)."""

from itertools import islice

import numpy as np
import pytest

from repro.papers.ewn_inductive_bias import theory
from repro.papers.ewn_inductive_bias.flows import euler_steps, loss_clock, weight_flow
from repro.papers.ewn_inductive_bias.method import METHODS

TIMES = np.linspace(0.0, 3.0, 13)
X = np.array([[1.0, 1.0], [1.7, 1.1], [-1.0, 1.0], [-1.5, -1.4]])
GRADIENT = theory.BinaryProblem("squared_relu", X, np.array([-1.0, -1, 1, 1]), "logistic").gradient
# Φ = w, loss e^{-w}
ONE_WEIGHT = theory.BinaryProblem("linear", np.array([[1.0]]), np.array([1.0]), "exponential").gradient


@pytest.fixture
def weights():
    generator = np.random.default_rng(3)
    return [generator.uniform(-0.7, 0.7, (5, 2)), generator.uniform(-0.5, 0.5, (1, 5))]


def furthest(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


# --- in ordinary time -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_layers_keep_their_balance(weights, method):
    """Sums over layers, over the layer's degree, of squared lengths (EWN: of log-lengths) move by the same amount."""
    hidden, output = (
        (np.log(theory.row_norm(w)) if method == "ewn" else np.vecdot(w, w)).sum(axis=-1)
        for w in weight_flow(GRADIENT, method, weights, TIMES)
    )
    assert np.ptp(output) > 0.05  # the terms move, their difference does not
    assert np.ptp(hidden / 2 - output) < 1e-9
    assert np.ptp(hidden - output) > 0.01


def test_one_weight_in_closed_form():
    # descent: w ← w + h e^{-w}; flow: e^w = e^{w0} + t
    (_, _, log_loss), (second, _, _) = islice(euler_steps(ONE_WEIGHT, "plain", [np.array([[0.5]])], 0.1), 2)
    assert second[0][0, 0] == pytest.approx(0.5 + 0.1 * np.exp(-0.5))
    assert log_loss == pytest.approx(-0.5)
    (path,) = weight_flow(ONE_WEIGHT, "plain", [np.array([[0.5]])], TIMES)
    np.testing.assert_allclose(path[:, 0, 0], np.log(np.exp(0.5) + TIMES), rtol=1e-10)
    # EWN: w' = w² e^{-w} has another path altogether
    (ewn,) = weight_flow(ONE_WEIGHT, "ewn", [np.array([[0.5]])], TIMES)
    assert abs(ewn[-1] - path[-1]) > 0.05


# --- with the loss as its clock ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_is_its_own_clock(weights, method):
    path = loss_clock(GRADIENT, method, weights, np.arange(-50.0, 301.0, 10.0))
    assert path.reached
    assert path.z[0] == pytest.approx(-float(GRADIENT(weights)[0]))  # lower values are left out
    assert path.z[-1] == 300.0
    assert path.error < 1e-5
    np.testing.assert_allclose(-GRADIENT(path.weights)[0], path.z, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_path_and_rate_are_those_of_the_flow_in_ordinary_time(weights, method):
    times = np.linspace(0.0, 5.0, 501)
    flow = weight_flow(GRADIENT, method, weights, times)
    z = -GRADIENT(flow)[0]
    clocked = loss_clock(GRADIENT, method, weights, z[1:])
    assert furthest(clocked.weights, flow) < 1e-6
    slope = np.gradient(np.exp(z), times)  # of 1/L
    np.testing.assert_allclose(clocked.log_rate[5:-5], np.log(slope[5:-5]), atol=1e-2)


def test_one_weight_meets_the_bound_with_equality():
    # plain: w = z, rate 1; EWN: rate w² = z², with L = n = 1
    z = np.append(np.linspace(1.0, 100.0, 34), [700.0, 2000.0])
    ewn, plain = (loss_clock(ONE_WEIGHT, method, [np.array([[0.5]])], z) for method in ("ewn", "plain"))
    np.testing.assert_allclose(plain.weights[0][:, 0, 0], plain.z, rtol=1e-9)
    np.testing.assert_allclose(plain.log_rate, 0.0, atol=1e-12)
    np.testing.assert_allclose(ewn.log_rate, 2 * np.log(ewn.z), atol=1e-9)
    assert theory.local_exponent(ewn.z, ewn.log_rate, 10, 100) == pytest.approx(2, abs=1e-9)
    assert plain.log_rate[-1] < 2 * np.log(plain.z[-1]) - 6  # the bound is EWN's alone


def test_a_network_that_cannot_fit_stalls_and_says_so():
    # One hidden unit that sees a single point, and no other unit: three losses stay at log 2.
    dead = loss_clock(GRADIENT, "plain", [np.array([[-0.5, -0.5]]), np.array([[0.7]])], np.arange(0.0, 11.0))
    assert not dead.reached
    assert dead.z.max() < 0
    # All units dead: no gradient at all.
    half = theory.BinaryProblem("squared_relu", np.array([[0.0, 1.0]]), np.array([1.0]), "logistic").gradient
    stuck = loss_clock(half, "ewn", [np.array([[0.0, -0.5]]), np.array([[0.7]])], np.arange(0.0, 11.0))
    assert not stuck.reached
    assert stuck.z.size == 1
