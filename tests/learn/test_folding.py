"""Folding: the same bits, plain layers, copies that live on, what is left alone."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from repro.learn import fold


class Doubled(nn.Module):
    def forward(self, half):
        return 2 * half

    def right_inverse(self, x):
        return x / 2


class Sum(nn.Module):
    def forward(self, a, b):
        return a + b

    def right_inverse(self, x):
        return x / 3, x - x / 3


class Shifted(nn.Module):
    def forward(self, x):
        return x + 1


def network(*parametrizations):
    torch.manual_seed(3)
    built = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    for layer in (built[0], built[2]):
        for parametrization in parametrizations:
            parametrize.register_parametrization(layer, "weight", parametrization())
    return built


@pytest.mark.parametrize("kind", [Doubled, Sum])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
def test_folded_layers_are_plain_with_the_same_bits(kind, trainable, gradients):
    written = network(kind).requires_grad_(trainable)
    weights = [written[i].weight.detach().clone() for i in (0, 2)]
    with torch.set_grad_enabled(gradients):
        folded = fold(written, kind)
    assert folded is written
    for i, expected, plain in zip((0, 2), weights, (nn.Conv2d, nn.Linear), strict=True):
        assert type(written[i]) is plain
        assert isinstance(written[i].weight, nn.Parameter)
        assert written[i].weight.requires_grad == trainable
        assert torch.equal(written[i].weight, expected)
    assert set(dict(written.named_parameters())) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_copies_live_on_and_can_be_folded_later():
    written = network(Sum)
    copies = [copy.deepcopy(written) for _ in range(2)]
    x = torch.ones(1, 1, 4, 4)
    expected = written(x)
    fold(written, Sum)
    for other in copies:
        assert torch.equal(other(x), expected)
        assert parametrize.is_parametrized(other[2], "weight")
    fold(copies[0], Sum)
    assert torch.equal(copies[1](x), expected)
    assert torch.equal(copies[0](x), expected)


def test_other_parametrizations_and_chains_are_left_alone():
    other, chain = network(Doubled), network(Doubled, Shifted)
    fold(other, Sum)
    fold(chain, Doubled, Shifted)
    assert parametrize.is_parametrized(other[2], "weight")
    assert parametrize.is_parametrized(chain[2], "weight")
