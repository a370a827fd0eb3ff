"""Architectures: published parameter counts, shapes, homogeneity; parametrised layers made plain again."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from repro.learn import fold, initialization, lenet5, lenet_300_100, perceptron, resnet20, vgg16_bias_free


def count(network, weights_only=False):
    return sum(p.numel() for p in network.parameters() if p.ndim > 1 or not weights_only)


@pytest.mark.parametrize(
    ("build", "parameters", "weights"),
    [
        (lenet_300_100, 266_610, 266_200),
        (lenet5, 431_080, 430_500),
        # He et al. (2016) say 0.27 million for ResNet-20, batch normalization included
        (resnet20, 269_722, 268_336),
        # 3x3 times the products of neighbouring widths, 64 biases, 512 x 10
        (vgg16_bias_free, 14_715_648, 14_715_584),
    ],
)
def test_parameter_counts(build, parameters, weights):
    with torch.device("meta"):
        network = build()
    assert count(network, weights_only=True) == weights
    assert count(network) == parameters


def test_resnet20_has_twenty_layers_and_batch_norm_is_a_choice_and_images_become_ten_logits():
    for wanted in (True, False):
        network = resnet20(batch_norm=wanted)
        layers = list(network.modules())
        assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in layers) == 20
        assert any(isinstance(m, nn.BatchNorm2d) for m in layers) == wanted
        assert all((m.bias is None) == wanted for m in layers if isinstance(m, nn.Conv2d))
        assert network(torch.randn(2, 3, 32, 32)).isfinite().sum() == 20
    assert lenet5()(torch.randn(2, 1, 28, 28)).shape == lenet_300_100()(torch.randn(2, 784)).shape == (2, 10)


@settings(max_examples=10)
@given(st.floats(0.25, 2.0))
def test_squared_relu_perceptron_is_homogeneous_of_order_three(scale):
    with initialization(0):
        network = perceptron((3, 5, 1), "squared_relu", bias=False).double()
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    before = network(x).detach()
    with torch.no_grad():
        for p in network.parameters():
            p *= scale
    torch.testing.assert_close(network(x), scale**3 * before)


def test_what_is_no_perceptron_is_refused():
    for sizes, bias in (((4,), True), ((4, 2.5, 2), True), ((4, 2, 2), [True])):
        with pytest.raises(ValueError, match=r"at least two sizes and one bias less|got 2\.5"):
            perceptron(sizes, bias=bias)


# --- folding ----------------------------------------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, half):
        return 2 * half

    def right_inverse(self, x):
        return x / 2


TWO_ORIGINALS = parametrizations._WeightNorm


def written(kind):
    built = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    for layer in (built[0], built[2]):
        parametrize.register_parametrization(layer, "weight", kind())
    return built


@pytest.mark.parametrize("kind", [Doubled, TWO_ORIGINALS])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_folded_layers_are_plain_with_the_same_bits(kind, trainable, gradients):
    network = written(kind).requires_grad_(trainable)
    weights = [network[i].weight.detach().clone() for i in (0, 2)]
    with torch.set_grad_enabled(gradients):
        assert fold(network, kind) is network
    for i, expected, plain in zip((0, 2), weights, (nn.Conv2d, nn.Linear), strict=True):
        assert type(network[i]) is plain
        assert isinstance(network[i].weight, nn.Parameter)
        assert network[i].weight.requires_grad == trainable
        assert torch.equal(network[i].weight, expected)
    assert set(dict(network.named_parameters())) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_copies_live_on_and_other_parametrizations_and_chains_are_left_alone():
    network, x = written(TWO_ORIGINALS), torch.ones(1, 1, 4, 4)
    other, expected = copy.deepcopy(network), network(x)
    fold(network, TWO_ORIGINALS)
    assert torch.equal(other(x), expected)
    assert torch.equal(fold(other, TWO_ORIGINALS)(x), expected)
    chain = written(Doubled)
    parametrizations.spectral_norm(chain[2])
    fold(chain, TWO_ORIGINALS)
    fold(chain, Doubled, parametrizations._SpectralNorm)
    assert [parametrize.is_parametrized(chain[i], "weight") for i in (0, 2)] == [False, True]
