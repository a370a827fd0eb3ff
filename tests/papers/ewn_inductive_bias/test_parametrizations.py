"""Weight normalizations: round trips, the chain rule, an Euler step against the flow equations."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from repro.learn.ensembles import Ensemble
from repro.papers.ewn_inductive_bias.parametrizations import (
    directions,
    effective_weights,
    fold,
    layer_methods,
    lengths,
    neuron_lengths,
    normalize_weights,
    renormalized,
    unit_directions,
)


def small_cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 4, 5), nn.ReLU(), nn.Linear(5, 2)
    ).double()


@pytest.mark.parametrize("method", ["plain", "swn", "ewn"])
def test_round_trip_leaves_weights_and_function_as_they_were(method):
    network, x = small_cnn(), torch.randn(7, 1, 6, 6, dtype=torch.float64)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    y = network(x)
    normalize_weights(network, method)
    assert set(layer_methods(network).values()) == {method}
    torch.testing.assert_close(network(x), y, rtol=1e-13, atol=1e-13)
    fold(network)
    assert set(layer_methods(network).values()) == {"plain"}
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("method", ["swn", "ewn"])
def test_fold_keeps_the_weights_bit_by_bit_and_spares_copies(method):
    network = normalize_weights(small_cnn(), method, ["0", "3"])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    other = copy.deepcopy(network)
    weights = {name: network.get_submodule(name).weight.detach().clone() for name in ("0", "3", "5")}
    with torch.no_grad():
        fold(network)
    for name, weight in weights.items():
        assert torch.equal(network.get_submodule(name).weight, weight)
        assert torch.equal(other.get_submodule(name).weight, weight)
        assert isinstance(network.get_submodule(name).weight, nn.Parameter)
    assert layer_methods(other) == {"0": method, "3": method, "5": "plain"}
    assert torch.equal(fold(other)[0].weight, weights["0"])


@pytest.mark.parametrize("method", ["swn", "ewn"])
def test_directions_start_at_unit_length_and_magnitudes_have_one_number_a_neuron(method):
    network = normalize_weights(small_cnn(), method)
    conv, linear = network[0].parametrizations.weight, network[3].parametrizations.weight
    assert conv.original0.shape == (3, 1, 1, 1)
    assert linear.original0.shape == (5, 1)
    torch.testing.assert_close(lengths(conv.original1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(lengths(linear.original1), torch.ones(5, dtype=torch.float64))
    expected = linear.original0.exp() if method == "ewn" else linear.original0
    torch.testing.assert_close(neuron_lengths(network)["3"], expected.detach().flatten())


@given(
    st.sampled_from(["swn", "ewn"]),
    st.floats(0.3, 3.0),
    st.integers(0, 1000),
)
def test_gradients_obey_the_chain_rule(method, radius, seed):
    torch.manual_seed(seed)
    layer = normalize_weights(nn.Linear(4, 3, bias=False).double(), method)
    magnitude, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    with torch.no_grad():
        v.mul_(radius)
    g = torch.randn(3, 4, dtype=torch.float64)
    w = layer.weight
    d_magnitude, d_v = torch.autograd.grad((w * g).sum(), (magnitude, v))
    unit = v / v.norm(dim=1, keepdim=True)
    scale = magnitude.exp() if method == "ewn" else magnitude
    inner = (unit * g).sum(dim=1, keepdim=True)
    torch.testing.assert_close(d_magnitude, inner * scale if method == "ewn" else inner)
    torch.testing.assert_close(d_v, scale / radius * (g - inner * unit), rtol=1e-9, atol=1e-12)


def euler_error(method: str, radius: float, step: float, short_form: bool) -> float:
    """Distance between one gradient step on the parameters and the weight-space flow times the step."""
    torch.manual_seed(3)
    layer = normalize_weights(nn.Linear(4, 3, bias=False).double(), method)
    g = torch.randn(3, 4, dtype=torch.float64)
    magnitude, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    with torch.no_grad():
        v.mul_(radius)
    w = layer.weight.detach()
    gradients = torch.autograd.grad((layer.weight * g).sum(), (magnitude, v))
    with torch.no_grad():
        for parameter, gradient in zip((magnitude, v), gradients, strict=True):
            parameter.sub_(step * gradient)
    squared = (w**2).sum(dim=1, keepdim=True)
    along = (w * g).sum(dim=1, keepdim=True) / squared * w
    v_squared = 1.0 if short_form else radius**2
    if method == "ewn":
        velocity = -squared * (along + (g - along) / v_squared)
    else:
        velocity = -(along + squared / v_squared * (g - along))
    return float((layer.weight.detach() - w - step * velocity).norm() / step)


@pytest.mark.parametrize("method", ["swn", "ewn"])
def test_one_small_step_follows_the_flow_equation_and_the_short_form_needs_unit_v(method):
    for radius in (1.0, 2.0):
        coarse, fine = (euler_error(method, radius, h, short_form=False) for h in (1e-3, 5e-4))
        assert fine < 1e-2
        assert coarse / fine == pytest.approx(2, abs=0.05)
    assert euler_error(method, 1.0, 1e-4, short_form=True) < 1e-2
    assert euler_error(method, 2.0, 1e-4, short_form=True) > 0.05


def test_gradient_steps_lengthen_v_by_pythagoras():
    torch.manual_seed(1)
    layer = normalize_weights(nn.Linear(4, 3, bias=False).double(), "ewn")
    v = layer.parametrizations.weight.original1
    for _ in range(20):
        (gradient,) = torch.autograd.grad((layer.weight**3).sum(), v)
        expected = lengths(v.detach()) ** 2 + 0.01**2 * lengths(gradient) ** 2
        with torch.no_grad():
            v.sub_(0.01 * gradient)
        torch.testing.assert_close(lengths(v.detach()) ** 2, expected, rtol=1e-13, atol=0)
    before = layer.weight.detach().clone()
    unit_directions(layer)
    torch.testing.assert_close(lengths(v.detach()), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(layer.weight, before, rtol=1e-13, atol=1e-15)


def test_negative_gamma_is_a_length_and_a_turned_direction():
    layer = normalize_weights(nn.Linear(4, 3, bias=False).double(), "swn")
    with torch.no_grad():
        layer.parametrizations.weight.original0[1] *= -1
    size, unit = neuron_lengths(layer)[""], directions(layer)[""]
    assert (size > 0).all()
    torch.testing.assert_close(size.unsqueeze(1) * unit, layer.weight.detach())


@pytest.mark.parametrize("method", ["plain", "swn", "ewn"])
def test_stacked_parameters_give_each_members_weights(method):
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        members.append(
            normalize_weights(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)), method)
        )
    ensemble = Ensemble(members)
    weights = effective_weights(ensemble.parameters, layer_methods(members[0]))
    longer = {n: p * 3 if n.endswith("original1") else p for n, p in ensemble.parameters.items()}
    again = effective_weights(renormalized(longer), layer_methods(members[0]))
    x = torch.randn(5, 1, 4, 4)
    for i, member in enumerate(members):
        torch.testing.assert_close(ensemble(x)[i], member(x))
        for name in ("0", "2"):
            torch.testing.assert_close(weights[name][i], member.get_submodule(name).weight)
            torch.testing.assert_close(again[name][i], member.get_submodule(name).weight)


def test_bad_input_is_refused_before_anything_changes():
    network = small_cnn()
    with pytest.raises(ValueError, match=r"unknown parametrisation 'enw'.*did you mean 'ewn'"):
        normalize_weights(network, "enw")
    with pytest.raises(ValueError, match=r"unknown Linear or Conv2d layer '33'; did you mean '3'"):
        normalize_weights(network, "ewn", ["0", "33"])
    with pytest.raises(ValueError, match="layer '1' is a ReLU"):
        normalize_weights(network, "ewn", ["0", "1"])
    with torch.no_grad():
        network[3].weight[2] = 0
    with pytest.raises(ValueError, match=r"layer '3' has 1 neuron.*first: 2"):
        normalize_weights(network, "ewn")
    assert not any(parametrize.is_parametrized(layer) for layer in network)
    normalize_weights(network, "swn", ["0"])
    with pytest.raises(ValueError, match="'0' is already parametrised"):
        normalize_weights(network, "ewn", ["0"])
    with pytest.raises(ValueError, match="no layer to normalise"):
        normalize_weights(nn.ReLU())
    foreign = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="does not know"):
        layer_methods(foreign)
    assert parametrize.is_parametrized(fold(foreign))
