"""Scores: what can be pruned, and how it is ranked."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from repro.learn.ensembles import Ensemble
from repro.prune import magnitude, prunable, random, unit_norms


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc((x + self.norm(self.conv(x))).mean((2, 3)))


def test_prunable_are_the_weights_of_linear_and_convolutional_layers():
    model = Residual()
    assert list(prunable(model)) == ["conv.weight", "fc.weight"]
    assert list(prunable(model, include_last=False)) == ["conv.weight"]
    assert list(prunable(nn.Linear(2, 2))) == ["weight"]


def test_a_shared_weight_is_listed_once():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    assert list(prunable(nn.Sequential(first, second))) == ["0.weight"]


def test_magnitude_and_lengths_by_hand():
    model = nn.Sequential(nn.Linear(2, 2), nn.Conv2d(1, 2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, -4.0], [0.0, 1.0]]))
        model[0].bias.fill_(100.0)
        model[1].weight.copy_(torch.tensor([1.0, 2, 2, 4, 0, 0, 0, -7]).reshape(2, 1, 2, 2))
    assert magnitude(model)["0.weight"].tolist() == [[3.0, 4.0], [0.0, 1.0]]
    norms = unit_norms(model)
    assert norms["0"].tolist() == [5.0, 1.0]
    assert norms["1"].tolist() == [5.0, 7.0]
    assert list(unit_norms(model, "1.weight")) == ["1"]
    assert list(unit_norms(nn.Linear(2, 2))) == [""]


def test_scores_are_values_of_their_own():
    model = nn.Linear(3, 2)
    scores = magnitude(model)
    before = model.weight.clone()
    scores["weight"].zero_()
    assert torch.equal(model.weight, before)
    assert not scores["weight"].requires_grad


def test_scores_of_a_parametrised_layer_are_of_its_effective_weight():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    parametrizations.weight_norm(model[0])
    assert torch.equal(magnitude(model)["0.weight"], model[0].weight.detach().abs())
    assert list(prunable(model)) == ["0.weight", "1.weight"]


def test_random_scores_depend_on_the_generator_alone():
    model = Residual()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = random(model, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    again = random(Residual(), generator=torch.Generator().manual_seed(3))
    other = random(model, generator=torch.Generator().manual_seed(4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_errors():
    with pytest.raises(ValueError, match=r"ReLU has no nn\.Linear or nn\.Conv2d to prune$"):
        prunable(nn.ReLU())
    with pytest.raises(ValueError, match="besides its last layer"):
        prunable(nn.Linear(2, 2), include_last=False)
    with pytest.raises(ValueError, match=r"'conv\.weigth'; did you mean 'conv\.weight'\?"):
        magnitude(Residual(), ["conv.weigth"])
    with pytest.raises(ValueError, match=r"need generator=torch\.Generator"):
        random(Residual())
    with pytest.raises(TypeError, match=r"got a Ensemble; take its members one by one: model\.member"):
        magnitude(Ensemble([nn.Linear(2, 2)]))  # type: ignore[arg-type]
