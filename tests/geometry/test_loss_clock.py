import numpy as np
import pytest
from scipy.special import expi

from repro.geometry.flows import weight_flow
from repro.geometry.homogeneous import BinaryProblem, Perceptron
from repro.geometry.loss_clock import log_times, loss_clock
from repro.geometry.parametrizations import EWN, PLAIN, SWN

KINDS = [PLAIN, SWN, EWN]
X = np.array([[1.0, 1.0], [1.7, 1.1], [-1.0, 1.0], [-1.5, -1.4]])
Y = np.array([-1.0, -1, 1, 1])


@pytest.fixture
def problem():
    return BinaryProblem(Perceptron("squared_relu"), X, Y, "logistic")


@pytest.fixture
def weights():
    generator = np.random.default_rng(3)
    return [generator.uniform(-0.7, 0.7, (8, 2)), generator.uniform(-0.5, 0.5, (1, 8))]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_the_loss_is_its_own_clock(problem, weights, kind):
    path = loss_clock(problem, kind, weights, np.arange(0.0, 301.0, 10.0))
    assert path.reached
    assert path.z[-1] == 300.0
    assert path.error < 1e-5
    np.testing.assert_allclose(-problem.log_loss(path.weights), path.z, atol=1e-5)
    assert np.all(np.diff(path.log_time) > 0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_the_path_and_its_times_are_those_of_the_flow_in_ordinary_time(problem, weights, kind):
    clocked = loss_clock(problem, kind, weights, np.linspace(-1.5, 3.0, 226))
    times = np.exp(clocked.log_time[[60, 120, -1]])
    flow = weight_flow(problem, kind, weights, np.concatenate([[0.0], times]), rtol=1e-10, atol=1e-12)
    for a, b in zip(clocked.weights, flow.weights, strict=True):
        np.testing.assert_allclose(a[[60, 120, -1]], b[1:], atol=1e-3)


def test_the_rate_is_the_derivative_of_the_inverse_loss(problem, weights):
    path = loss_clock(problem, EWN, weights, np.linspace(2.0, 4.0, 401))
    z, t = path.z[1:], np.exp(path.log_time[1:])
    slope = np.gradient(np.exp(z), t)
    np.testing.assert_allclose(np.log(slope[5:-5]), path.log_rate[6:-5], atol=1e-3)


def test_plain_flow_on_one_weight_is_exact():
    # Φ = w, loss e^{-w}: w = z, rate 1, t = e^z - e^{z0}
    one = BinaryProblem(Perceptron("linear"), np.array([[1.0]]), np.array([1.0]), "exponential")
    path = loss_clock(one, PLAIN, [np.array([[0.5]])], np.array([1.0, 2.0, 700.0, 2000.0]))
    np.testing.assert_allclose(path.weights[0][:, 0, 0], path.z, rtol=1e-9)
    np.testing.assert_allclose(path.log_rate, 0.0, atol=1e-12)
    assert path.log_time[2] == pytest.approx(np.log(np.exp(2) - np.exp(0.5)), rel=1e-9)
    assert path.log_time[-1] == pytest.approx(2000.0, rel=1e-9)


def test_ewn_time_on_one_weight_against_the_exponential_integral():
    # w' = w² e^{-w}: t = ∫ e^w / w² dw = Ei(w) - e^w / w
    one = BinaryProblem(Perceptron("linear"), np.array([[1.0]]), np.array([1.0]), "exponential")
    path = loss_clock(one, EWN, [np.array([[2.0]])], np.linspace(2.05, 40.0, 760))
    t = (expi(40.0) - np.exp(40.0) / 40.0) - (expi(2.0) - np.exp(2.0) / 2.0)
    assert path.log_time[-1] == pytest.approx(np.log(t), abs=1e-5)


def test_log_times_are_exact_for_an_exponential_at_any_spacing():
    z = np.array([0.0, 1.0, 4.0, 900.0])
    np.testing.assert_allclose(log_times(z, np.zeros(4))[1:3], np.log(np.expm1(z[1:3])))
    assert log_times(z, np.zeros(4))[-1] == pytest.approx(900.0)
    # falling and constant integrands
    np.testing.assert_allclose(log_times(z[:3], 2 * z[:3])[1:], np.log(-np.expm1(-z[1:3])))
    np.testing.assert_allclose(log_times(z[:3], z[:3])[1:], np.log(z[1:3]), atol=1e-11)


def test_a_network_that_cannot_fit_stalls_and_says_so(problem):
    # One hidden unit that sees a single point, and no other unit: three losses stay at log 2.
    dead = [np.array([[-0.5, -0.5]]), np.array([[0.7]])]
    path = loss_clock(problem, PLAIN, dead, np.arange(0.0, 11.0))
    assert path.status == "stalled"
    assert path.z.max() < 0
    # All units dead: no gradient at all.
    nothing = [np.array([[0.0, -0.5]]), np.array([[0.7]])]
    half = BinaryProblem(Perceptron("squared_relu"), np.array([[0.0, 1.0]]), np.array([1.0]), "logistic")
    stuck = loss_clock(half, EWN, nothing, np.arange(0.0, 11.0))
    assert stuck.status == "stalled"
    assert stuck.z.size == 1


def test_values_of_z_below_the_start_are_left_out(problem, weights):
    path = loss_clock(problem, PLAIN, weights, np.array([-50.0, -10.0, 1.0]))
    assert path.z.size == 2
    assert path.z[0] == pytest.approx(-float(problem.log_loss(weights)))


def test_bad_input_is_named(problem, weights):
    with pytest.raises(ValueError, match="must increase"):
        loss_clock(problem, PLAIN, weights, np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match=r"one network at a time.*\(1, 8, 2\)"):
        loss_clock(problem, PLAIN, [w[None] for w in weights], np.array([1.0]))
