"""Weight normalizations of a user's own module: round trips, the chain rule, what is refused."""

import copy
import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from repro.papers.ewn_inductive_bias import fold, method, normalize_weights, theory


def small_cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 4, 5), nn.ReLU(), nn.Linear(5, 2)
    ).double()


def test_the_example_runs():
    assert doctest.testmod(method) == (0, 9)


@pytest.mark.parametrize("kind", method.METHODS)
def test_round_trip_leaves_weights_and_function_as_they_were(kind):
    network, x = small_cnn(), torch.randn(7, 1, 6, 6, dtype=torch.float64)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    y = network(x)
    normalize_weights(network, kind)
    torch.testing.assert_close(network(x), y, rtol=1e-13, atol=1e-13)
    fold(network)
    assert not any(parametrize.is_parametrized(layer) for layer in network)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("kind", ["swn", "ewn"])
def test_fold_keeps_the_weights_bit_by_bit_and_spares_copies_and_strangers(kind):
    network = normalize_weights(small_cnn(), kind, ["0", "3"])
    nn.utils.parametrizations.weight_norm(network[5])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    other = copy.deepcopy(network)
    weights = {name: network.get_submodule(name).weight.detach().clone() for name in ("0", "3", "5")}
    fold(network)
    for name, weight in weights.items():
        assert torch.equal(network.get_submodule(name).weight, weight)
        assert torch.equal(other.get_submodule(name).weight, weight)
        assert parametrize.is_parametrized(network.get_submodule(name)) == (name == "5")
        assert parametrize.is_parametrized(other.get_submodule(name))


@pytest.mark.parametrize("kind", ["swn", "ewn"])
def test_directions_start_at_unit_length_and_each_neuron_has_one_magnitude(kind):
    network = normalize_weights(small_cnn(), kind)
    for layer, shape in ((network[0], (3, 1, 1, 1)), (network[3], (5, 1))):
        magnitude, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
        assert magnitude.shape == shape
        torch.testing.assert_close(v.flatten(1).norm(dim=1), torch.ones(shape[0], dtype=torch.float64))
        length = magnitude.exp() if kind == "ewn" else magnitude
        torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), length.flatten())


@settings(max_examples=30)
@given(st.sampled_from(["swn", "ewn"]), st.floats(0.3, 3.0), st.integers(0, 1000))
def test_autograd_through_a_layer_is_the_chain_rule_of_the_theory(kind, radius, seed):
    torch.manual_seed(seed)
    layer = normalize_weights(nn.Linear(4, 3, bias=False).double(), kind)
    magnitude, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    with torch.no_grad():
        v.mul_(radius)
        if kind == "swn":
            magnitude[1] *= -1  # a length may cross zero in training
    g = torch.randn(3, 4, dtype=torch.float64)
    (layer.weight * g).sum().backward()
    parameters = [magnitude.detach().numpy()[:, 0], v.detach().numpy()]
    np.testing.assert_allclose(theory.join_weights(parameters, kind)[0], layer.weight.detach(), rtol=1e-12)
    d_magnitude, d_v = theory.pull_back(parameters, [g.numpy()], kind)
    np.testing.assert_allclose(d_magnitude, magnitude.grad[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(d_v, v.grad, rtol=1e-9, atol=1e-12)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.output = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        self.output.weight = self.words.weight


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(3, 3))


REFUSED = {
    "shares its weight with words.weight": Tied,
    "is a ConvTranspose2d, whose neurons are not the rows": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 2, 3)
    ),
    "already parametrized by _WeightNorm; call torch.nn.utils.parametrize.remove_parametrizations": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    ),
    r"call torch.nn.utils.remove_weight_norm\(layer\) first": old_weight_norm,
    "has no weights yet": lambda: nn.LazyLinear(3),
    "on the meta device": lambda: nn.Linear(3, 3, device="meta"),
    "ReLU has none with neurons": nn.ReLU,
    "neuron 2 of a weight of shape .* has length 0": lambda: with_row(nn.Linear(4, 3), 2, 0.0),
    "has length nan": lambda: with_row(nn.Linear(4, 3), 1, np.inf),
}


def with_row(layer, row, value):
    with torch.no_grad():
        layer.weight[row] = value
    return layer


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_normalized_is_refused_in_a_line(message):
    with pytest.raises(ValueError, match=message) as caught:
        normalize_weights(REFUSED[message]())
    assert "\n" not in str(caught.value)


def test_bad_input_is_refused_before_anything_changes():
    network = small_cnn()
    with pytest.raises(ValueError, match=r"unknown method 'enw'; did you mean 'ewn'"):
        normalize_weights(network, "enw")
    with pytest.raises(ValueError, match=r"unknown linear or convolutional layer '33'; did you mean '3'"):
        normalize_weights(network, "ewn", ["0", "33"])
    with_row(network[3], 2, 0.0)
    with pytest.raises(ValueError, match=r"neuron 2 of a weight of shape \(5, 48\) has length 0"):
        normalize_weights(network, "ewn")
    assert not any(parametrize.is_parametrized(layer) for layer in network)
    normalize_weights(network, "swn", ["0"])
    with pytest.raises(ValueError, match=r"'0' is already parametrized; call fold\(module\) first"):
        normalize_weights(network, "ewn", ["0"])


@pytest.mark.parametrize("kind", ["swn", "ewn"])
@pytest.mark.parametrize("size", [1e-25, 1e25])  # their squares are not float32s
def test_tiny_and_huge_rows_keep_their_weights(kind, size):
    layer = with_row(nn.Linear(4, 3), 1, torch.tensor([1.0, -2, 3, 4]) * size)
    before = layer.weight.detach().clone()
    torch.testing.assert_close(normalize_weights(layer, kind).weight.detach(), before, rtol=2e-5, atol=0)
    torch.testing.assert_close(layer.parametrizations.weight.original1.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize(("layer", "shape"), [(nn.Conv1d, (2, 2, 8)), (nn.Conv3d, (2, 2, 5, 5, 5))])
def test_convolutions_of_other_dimensions(layer, shape):
    network, x = layer(2, 3, 3).double(), torch.randn(shape, dtype=torch.float64)
    before = network(x)
    normalize_weights(network)
    torch.testing.assert_close(network(x), before, rtol=1e-13, atol=1e-13)
    assert network.parametrizations.weight.original0.numel() == 3


def test_a_layer_that_stands_twice_is_normalized_once():
    layer, x = nn.Linear(4, 4).double(), torch.randn(3, 4, dtype=torch.float64)
    network = nn.Sequential(layer, nn.ReLU(), layer)
    before = network(x)
    normalize_weights(network)
    torch.testing.assert_close(network(x), before, rtol=1e-13, atol=1e-13)
    assert sum(p.numel() for p in network.parameters()) == 4 + 16 + 4


@pytest.mark.parametrize("kind", ["swn", "ewn"])
def test_the_state_of_a_plain_network_is_split_as_it_is_loaded(kind):
    plain, network = small_cnn(), normalize_weights(small_cnn(), kind)
    for p in plain.parameters():
        p.data.mul_(1.5)
    for own in (network, copy.deepcopy(network)):
        own.load_state_dict(plain.state_dict())
        own.load_state_dict(own.state_dict())
        for name in ("0", "3", "5"):
            expected = plain.get_submodule(name).weight
            torch.testing.assert_close(own.get_submodule(name).weight, expected, rtol=1e-13, atol=1e-14)
        fold(own).load_state_dict(plain.state_dict())
