from itertools import pairwise

import numpy as np
import pytest
import torch

from repro.geometry.homogeneous import BinaryProblem, Perceptron
from repro.geometry.parametrizations import row_dot

WIDTHS = {1: (3, 1), 2: (3, 5, 1), 3: (3, 4, 5, 1), 4: (3, 4, 4, 3, 1)}


def random_weights(depth, seed=0, lead=()):
    generator = np.random.default_rng(seed)
    widths = WIDTHS[depth]
    return [generator.normal(size=(*lead, b, a)) for a, b in pairwise(widths)]


def problem(activation="relu", loss="logistic", fixed=None):
    generator = np.random.default_rng(1)
    x = generator.normal(size=(6, 3))
    return BinaryProblem(Perceptron(activation, fixed or {}), x, np.array([1.0, -1, 1, -1, 1, 1]), loss)


def torch_log_loss(p, matrices):
    """The same network and loss written with autograd."""
    signal = torch.tensor(p.x).T
    for i, matrix in enumerate(matrices):
        signal = matrix @ signal
        if i + 1 < len(matrices):
            activation = p.network.activation
            signal = (
                signal
                if activation == "linear"
                else signal.clamp(min=0) ** (1 + (activation == "squared_relu"))
            )
    q = torch.tensor(p.y) * signal[0]
    losses = torch.nn.functional.softplus(-q).log() if p.loss == "logistic" else -q
    return torch.logsumexp(losses, 0)


@pytest.mark.parametrize("activation", ["linear", "relu", "squared_relu"])
@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_gradient_is_autograds(activation, loss, depth):
    p = problem(activation, loss)
    weights = random_weights(depth)
    tensors = [torch.tensor(w, requires_grad=True) for w in weights]
    expected = torch_log_loss(p, tensors)
    expected.backward()
    value, gradient = p.gradient(weights)
    assert value == pytest.approx(expected.item(), rel=1e-12)
    for g, t in zip(gradient, tensors, strict=True):
        np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", ["linear", "squared_relu"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_fixed_layer_leaves_the_other_gradients_alone(activation, position):
    weights = random_weights(3)
    free = [w for i, w in enumerate(weights) if i != position]
    whole = problem(activation).gradient(weights)
    part = problem(activation, fixed={position: weights[position]}).gradient(free)
    assert part[0] == whole[0]
    for g, expected in zip(part[1], [g for i, g in enumerate(whole[1]) if i != position], strict=True):
        np.testing.assert_allclose(g, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("activation", ["linear", "relu", "squared_relu"])
def test_leading_dimensions_are_networks_of_their_own(activation):
    p = problem(activation)
    batch = random_weights(3, lead=(2, 4))
    value, gradient = p.gradient(batch)
    for index in np.ndindex(2, 4):
        one_value, one_gradient = p.gradient([w[index] for w in batch])
        assert value[index] == pytest.approx(float(one_value), rel=1e-12)
        for g, one in zip(gradient, one_gradient, strict=True):
            np.testing.assert_allclose(g[index], one, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("activation", ["linear", "relu", "squared_relu"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_homogeneity_and_eulers_identity_layer_by_layer(activation, depth):
    p = problem(activation, "exponential")
    weights = random_weights(depth)
    degrees = p.network.degrees(depth)
    np.testing.assert_allclose(
        p.margins([1.3 * w for w in weights]), 1.3 ** sum(degrees) * p.margins(weights)
    )
    # exponential loss: <w_l, grad_l log L> = -d_l * sum_i share_i q_i, the same sum for every layer
    q = p.margins(weights)
    shares = np.exp(-q - p.log_loss(weights))
    for w, g, degree in zip(weights, p.gradient(weights)[1], degrees, strict=True):
        assert row_dot(w, g).sum() == pytest.approx(-degree * float(shares @ q), rel=1e-10, abs=1e-12)


def test_a_loss_far_below_the_smallest_float_keeps_its_gradient():
    p = BinaryProblem(
        Perceptron("linear"), np.array([[1.0, 0.0], [0.9, 0.5]]), np.array([1.0, 1.0]), "logistic"
    )
    value, gradient = p.gradient([np.array([[5000.0, 1000.0]])])
    # Both margins are 5000: the points share the gradient.
    assert value == pytest.approx(np.log(2) - 5000.0, rel=1e-14)
    np.testing.assert_allclose(gradient[0], [[-0.95, -0.25]], atol=1e-12)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"'reluu'.*did you mean 'relu'"):
        Perceptron("reluu")
    with pytest.raises(ValueError, match=r"fixed layers \[5\]"):
        problem(fixed={5: np.ones((1, 3))}).gradient(random_weights(2))
    with pytest.raises(ValueError, match=r"\(6, 3\).*\(5,\)"):
        BinaryProblem(Perceptron(), np.zeros((6, 3)), np.ones(5))
    with pytest.raises(ValueError, match="-1 or \\+1, got 0"):
        BinaryProblem(Perceptron(), np.zeros((2, 3)), np.array([0.0, 1.0]))
