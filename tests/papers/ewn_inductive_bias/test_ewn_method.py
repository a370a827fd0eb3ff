"""Weight normalizations of a user's own module: round trips, the chain rule, what is refused."""

import copy

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


TWICE = nn.Linear(4, 4)
NETWORKS = {  # the network, the shape of its inputs, its neurons
    "two kinds of layers": (small_cnn(), (7, 1, 6, 6), 3 + 5 + 2),
    "Conv1d": (nn.Conv1d(2, 3, 3), (2, 2, 8), 3),
    "Conv3d": (nn.Conv3d(2, 3, 3), (2, 2, 5, 5, 5), 3),
    "a layer that stands twice": (nn.Sequential(TWICE, nn.ReLU(), TWICE), (3, 4), 4),
}


@pytest.mark.parametrize("kind", method._METHODS)
@pytest.mark.parametrize(("network", "shape", "n_neurons"), NETWORKS.values(), ids=NETWORKS)
def test_round_trip_leaves_weights_and_function_as_they_were(network, shape, n_neurons, kind):
    network, x = copy.deepcopy(network).double(), torch.randn(shape, dtype=torch.float64)
    before = copy.deepcopy(network.state_dict())
    y = network(x)
    normalize_weights(network, kind)
    torch.testing.assert_close(network(x), y, rtol=1e-13, atol=1e-13)
    parameters = dict(network.named_parameters())
    lengths = [p for name, p in parameters.items() if name.endswith("original0")]
    assert sum(p.numel() for p in lengths) == (0 if kind == "plain" else n_neurons)
    for v in (p for name, p in parameters.items() if name.endswith("original1")):
        torch.testing.assert_close(v.flatten(1).norm(dim=1), torch.ones(len(v), dtype=torch.float64))
    fold(network)
    torch.testing.assert_close(network.state_dict(), before, rtol=1e-14, atol=1e-15)


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
    parameters = [magnitude.detach().numpy(), v.detach().numpy()]
    np.testing.assert_allclose(theory._join(parameters, kind)[0], layer.weight.detach(), rtol=1e-12)
    d_magnitude, d_v = theory._pull_back(parameters, [g.numpy()], kind)
    np.testing.assert_allclose(d_magnitude, magnitude.grad, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(d_v, v.grad, rtol=1e-9, atol=1e-12)


def tied() -> nn.Module:
    network = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
    network[1].weight = network[0].weight
    return network


def with_row(layer, row, value):
    with torch.no_grad():
        layer.weight[row] = value
    return layer


REFUSED = {
    "shares its weight with 0.weight": tied,
    "is a ConvTranspose2d": lambda: nn.Sequential(nn.ConvTranspose2d(3, 2, 3)),
    "already parametrized by _WeightNorm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
    r"already parametrized; call fold\(module\)": lambda: normalize_weights(nn.Linear(3, 3)),
    "has no weights yet": lambda: nn.LazyLinear(3),
    "ReLU has none with neurons": nn.ReLU,
    "neuron 1 .* has length nan": lambda: with_row(nn.Linear(4, 3), 1, np.inf),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_normalized_is_refused(message):
    with pytest.raises(ValueError, match=message):
        normalize_weights(REFUSED[message]())


def test_bad_input_is_refused_before_anything_changes():
    network = small_cnn()
    with_row(network[3], 2, 0.0)
    for arguments, message in (
        (("enw",), r"unknown method 'enw'; did you mean 'ewn'"),
        (("ewn", ["0", "33"]), "unknown linear or convolutional layer '33'"),
        (("ewn",), r"neuron 2 of a weight of shape \(5, 48\) has length 0"),
    ):
        with pytest.raises(ValueError, match=message):
            normalize_weights(network, *arguments)
    assert not any(parametrize.is_parametrized(layer) for layer in network)


@pytest.mark.parametrize("kind", ["swn", "ewn"])
@pytest.mark.parametrize("size", [1e-25, 1e25])  # their squares are not float32s
def test_tiny_and_huge_rows_keep_their_weights(kind, size):
    layer = with_row(nn.Linear(4, 3), 1, torch.tensor([1.0, -2, 3, 4]) * size)
    before = layer.weight.detach().clone()
    torch.testing.assert_close(normalize_weights(layer, kind).weight.detach(), before, rtol=2e-5, atol=0)


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
