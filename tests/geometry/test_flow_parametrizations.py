import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repro.geometry.parametrizations import EWN, PLAIN, SWN, parametrization, row_dot, row_norm

KINDS = [PLAIN, SWN, EWN]


def random_matrices(seed=0, shapes=((4, 3), (1, 4))):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=shape) for shape in shapes]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
@given(seed=st.integers(0, 2**31), radius=st.floats(0.01, 100), size=st.floats(1e-3, 1e3))
def test_round_trip_of_weights(kind, seed, radius, size):
    weights = [size * w for w in random_matrices(seed)]
    parameters = kind.parameters(weights, radius)
    for back, w in zip(kind.weights(parameters), weights, strict=True):
        np.testing.assert_allclose(back, w, rtol=1e-12)
    if kind is not PLAIN:
        for v in parameters[1::2]:
            np.testing.assert_allclose(row_norm(v), radius)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_pull_back_is_autograds(kind):
    weights, gradient = random_matrices(0), random_matrices(1)
    parameters = kind.parameters(weights, 1.7)
    if kind is SWN:
        parameters[0][1] *= -1  # a negative length is allowed
    tensors = [torch.tensor(p, requires_grad=True) for p in parameters]
    total = torch.zeros((), dtype=torch.float64)
    groups = [(t,) for t in tensors] if kind is PLAIN else list(zip(tensors[::2], tensors[1::2], strict=True))
    for group, g in zip(groups, gradient, strict=True):
        if kind is PLAIN:
            w = group[0]
        else:
            length = group[0].exp() if kind is EWN else group[0]
            w = length[:, None] * group[1] / group[1].norm(dim=1, keepdim=True)
        total = total + (w * torch.tensor(g)).sum()
    total.backward()
    for pulled, t in zip(kind.pull_back(parameters, gradient), tensors, strict=True):
        np.testing.assert_allclose(pulled, t.grad.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [SWN, EWN], ids=lambda k: k.name)
@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_a_small_step_moves_the_weights_as_the_flow_says_up_to_second_order(kind, radius):
    weights, gradient = random_matrices(0), random_matrices(1)
    parameters = kind.parameters(weights, radius)
    pulled = kind.pull_back(parameters, gradient)
    predicted = kind.precondition(weights, gradient, radius)

    def miss(h):
        moved = kind.weights([p - h * g for p, g in zip(parameters, pulled, strict=True)])
        return max(np.abs(m - w + h * d).max() for m, w, d in zip(moved, weights, predicted, strict=True))

    assert miss(1e-4) < 1e-6
    assert miss(1e-3) / miss(5e-4) == pytest.approx(4, rel=0.02)


def test_clean_forms_are_the_papers_formulas_and_need_unit_directions():
    weights, gradient = random_matrices(0), random_matrices(1)
    for w, g, swn, ewn in zip(
        weights,
        gradient,
        SWN.precondition(weights, gradient),
        EWN.precondition(weights, gradient),
        strict=True,
    ):
        squared, inner = (w**2).sum(1, keepdims=True), (w * g).sum(1, keepdims=True)
        np.testing.assert_allclose(swn, squared * g + (1 - squared) / squared * inner * w)
        np.testing.assert_allclose(ewn, squared * g)
    for kind in (SWN, EWN):
        long = kind.precondition(weights, gradient, 2.0)
        assert np.abs(long[0] - kind.precondition(weights, gradient)[0]).max() > 0.05
        np.testing.assert_allclose(
            kind.precondition(weights, gradient, 1.0 + 1e-12)[0], kind.precondition(weights, gradient)[0]
        )


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
@given(seed=st.integers(0, 2**31))
def test_the_loss_falls_along_every_flow(kind, seed):
    weights, gradient = random_matrices(seed), random_matrices(seed + 1)
    moved = kind.precondition(weights, gradient)
    assert sum(row_dot(g, m).sum() for g, m in zip(gradient, moved, strict=True)) > 0


def test_radius_may_differ_from_node_to_node():
    weights, gradient = random_matrices(0), random_matrices(1)
    radii = [np.array([1.0, 2.0, 1.0, 3.0]), np.array([1.0])]
    mixed = EWN.precondition(weights, gradient, radii)
    np.testing.assert_allclose(mixed[0][1], EWN.precondition(weights, gradient, 2.0)[0][1])
    np.testing.assert_allclose(mixed[0][2], EWN.precondition(weights, gradient)[0][2])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"'enw'.*did you mean 'ewn'"):
        parametrization("enw")
    with pytest.raises(ValueError, match="layer 1 has length 0"):
        EWN.parameters([np.ones((2, 2)), np.zeros((1, 2))])
    with pytest.raises(ValueError, match=r"positive, got -1"):
        SWN.parameters([np.ones((2, 2))], -1.0)
