"""Structured pruning: whole rows and filters, with the same tie rule."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repro.learn.ensembles import Ensemble
from repro.prune import select, select_units, unit_mask, unit_norms

tied = st.lists(st.integers(0, 3), min_size=1, max_size=20).map(
    lambda v: torch.tensor(v, dtype=torch.float32)
)


@given(tied, st.integers(0, 100))
def test_units_go_by_the_rule_that_weights_go_by(scores, p):
    assert torch.equal(select_units(scores, p / 100), select({"w": scores}, sparsity=p / 100)["w"])


def test_units_by_hand():
    assert select_units(torch.tensor([2.0, 1.0, 1.0, 3.0]), 0.25).tolist() == [True, False, True, True]
    assert select_units(torch.tensor([2.0, 1.0]), n_pruned=2).tolist() == [False, False]
    both = select_units(torch.tensor([[1.0, 2.0], [2.0, 1.0]]), 0.5)
    assert both.tolist() == [[False, True], [True, False]]


def test_a_linear_layer_loses_rows_and_biases():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    mask = unit_mask(model, "0", torch.tensor([True, False, True]))
    assert mask["0.weight"].tolist() == [[True, True], [False, False], [True, True]]
    assert mask["0.bias"].tolist() == [True, False, True]
    assert list(mask) == ["0.weight", "0.bias"]


def test_a_convolution_loses_filters_and_has_no_bias_to_lose():
    mask = unit_mask(nn.Conv2d(2, 3, 3, bias=False), "", torch.tensor([False, True, True]))
    assert list(mask) == ["weight"]
    assert mask["weight"].shape == (3, 2, 3, 3)
    assert mask.n_pruned == 18
    assert not mask["weight"][0].any()


def test_a_pruned_network_is_the_smaller_network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
    keep = select_units(unit_norms(model)["0"], 0.6)
    small = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        small[0].weight.copy_(model[0].weight[keep])
        small[0].bias.copy_(model[0].bias[keep])
        small[2].weight.copy_(model[2].weight[:, keep])
        small[2].bias.copy_(model[2].bias)
    unit_mask(model, "0", keep).apply(model)
    x = torch.randn(7, 4)
    torch.testing.assert_close(model(x), small(x))


def test_masks_of_two_layers_combine():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    keep = torch.tensor([True, False])
    mask = unit_mask(model, "0", keep) & unit_mask(model, "1", keep)
    assert mask.n_pruned == 6
    assert set(mask) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_units_of_each_member_of_an_ensemble():
    torch.manual_seed(0)
    members = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(3)]
    scores = torch.stack([unit_norms(member)["0"] for member in members])
    ensemble = Ensemble(members)
    unit_mask(members[0], "0", select_units(scores, 0.5)).apply(ensemble)
    for i, member in enumerate(members):
        unit_mask(member, "0", select_units(scores[i], 0.5)).apply(member)
        assert torch.equal(ensemble.member(i)[0].weight, member[0].weight)
        assert torch.equal(ensemble.member(i)[0].bias, member[0].bias)


def test_errors():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    keep = torch.tensor([True, False, True])
    with pytest.raises(ValueError, match=r"unknown linear or convolutional layer '1'; known: 0$"):
        unit_mask(model, "1", keep)
    with pytest.raises(ValueError, match=r"'0' has 3 units; keep has shape \(2,\)"):
        unit_mask(model, "0", keep[:2])
    with pytest.raises(TypeError, match=r"got torch\.float32"):
        unit_mask(model, "0", keep.float())
    with pytest.raises(ValueError, match="1 of the 2 scores of 'the units' are NaN"):
        select_units(torch.tensor([1.0, torch.nan]), 0.5)
    with pytest.raises(ValueError, match=r"got \(1, 1, 1\)"):
        select_units(torch.ones(1, 1, 1), 0.5)
    with pytest.raises(ValueError, match="between 0 and 3"):
        select_units(torch.ones(3), n_pruned=4)
