from itertools import islice

import numpy as np
import pytest

from repro.geometry.flows import euler_steps, layer_balances, parameter_flow, weight_flow
from repro.geometry.homogeneous import BinaryProblem, Perceptron
from repro.geometry.parametrizations import EWN, PLAIN, SWN, row_dot, row_norm

KINDS = [PLAIN, SWN, EWN]
TIMES = np.linspace(0.0, 3.0, 13)


@pytest.fixture
def problem():
    x = np.array([[1.0, 1.0], [1.7, 1.1], [-1.0, 1.0], [-1.5, -1.4]])
    return BinaryProblem(Perceptron("squared_relu"), x, np.array([-1.0, -1, 1, 1]), "logistic")


@pytest.fixture
def weights():
    generator = np.random.default_rng(3)
    return [generator.uniform(-0.7, 0.7, (5, 2)), generator.uniform(-0.5, 0.5, (1, 5))]


def furthest(a, b):
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_parameter_flow_is_weight_flow(problem, weights, kind, radius):
    path = parameter_flow(problem, kind, weights, TIMES, radius)
    # Squared ReLU is only once differentiable: where a unit switches, the solver's error control is a little
    # blind.
    assert furthest(path.weights, weight_flow(problem, kind, weights, TIMES, radius).weights) < 1e-6
    for v in path.parameters[1::2] if kind is not PLAIN else []:
        np.testing.assert_allclose(row_norm(v), radius, rtol=1e-9)


@pytest.mark.parametrize("kind", [SWN, EWN], ids=lambda k: k.name)
def test_the_short_form_fails_for_long_directions_and_the_plain_flow_is_another(problem, weights, kind):
    path = parameter_flow(problem, kind, weights, TIMES, 2.0)
    assert furthest(path.weights, weight_flow(problem, kind, weights, TIMES, 1.0).weights) > 0.05
    assert furthest(path.weights, weight_flow(problem, PLAIN, weights, TIMES).weights) > 0.05


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_layer_balances_are_conserved(problem, weights, kind):
    path = weight_flow(problem, kind, weights, TIMES).weights
    balances = layer_balances(path, problem.network.degrees(2), kind)
    assert np.ptp(balances[:, 0]) > 0.05  # the terms move, their difference does not
    assert np.ptp(balances[:, 0] - balances[:, 1]) < 1e-9
    wrong = layer_balances(path, (1, 1), kind)
    assert np.ptp(wrong[:, 0] - wrong[:, 1]) > 0.01


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_euler_steps_converge_to_the_flow_with_order_one(problem, weights, kind):
    end = [w[-1] for w in weight_flow(problem, kind, weights, TIMES).weights]

    def miss(n_steps):
        steps = euler_steps(problem, kind, kind.parameters(weights), TIMES[-1] / n_steps)
        last = next(islice(steps, n_steps, None))
        return furthest(kind.weights(last.parameters), end)

    assert miss(600) / miss(1200) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("kind", [SWN, EWN], ids=lambda k: k.name)
def test_directions_grow_by_the_squared_step(problem, weights, kind):
    h = 0.1
    before, after = islice(euler_steps(problem, kind, kind.parameters(weights), h), 2)
    for v, grown, g in zip(
        before.parameters[1::2], after.parameters[1::2], before.gradient[1::2], strict=True
    ):
        growth = h**2 * np.exp(2 * before.log_loss) * row_dot(g, g)
        assert growth.max() > 1e-6
        np.testing.assert_allclose(row_dot(grown, grown), row_dot(v, v) + growth, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_euler_steps_of_many_networks_at_once(problem, weights, kind):
    batch = [np.stack([w, 1.5 * w]) for w in weights]
    together = next(islice(euler_steps(problem, kind, kind.parameters(batch), 0.05), 50, None))
    for i, scale in enumerate((1.0, 1.5)):
        start = kind.parameters([scale * w for w in weights])
        alone = next(islice(euler_steps(problem, kind, start, 0.05), 50, None))
        assert together.log_loss[i] == pytest.approx(float(alone.log_loss), rel=1e-12)
        assert furthest([p[i] for p in together.parameters], alone.parameters) < 1e-12


def test_gradient_descent_on_one_weight_in_closed_form():
    # Φ = w, loss e^{-w}: w ← w + h e^{-w}; flow: e^w = e^{w0} + t
    one = BinaryProblem(Perceptron("linear"), np.array([[1.0]]), np.array([1.0]), "exponential")
    first, second = islice(euler_steps(one, PLAIN, [np.array([[0.5]])], 0.1), 2)
    assert second.parameters[0][0, 0] == pytest.approx(0.5 + 0.1 * np.exp(-0.5))
    assert first.log_loss == pytest.approx(-0.5)
    path = weight_flow(one, PLAIN, [np.array([[0.5]])], TIMES).weights[0][:, 0, 0]
    np.testing.assert_allclose(path, np.log(np.exp(0.5) + TIMES), rtol=1e-10)
    # EWN: w' = w² e^{-w} has another path altogether
    assert abs(weight_flow(one, EWN, [np.array([[0.5]])], TIMES).weights[0][-1, 0, 0] - path[-1]) > 0.05
