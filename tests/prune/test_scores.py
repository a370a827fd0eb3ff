"""Scores: what can be pruned, and how it is ranked."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from repro.learn.ensembles import Ensemble
from repro.prune import Mask, magnitude, prunable, select, unit_norms


def test_a_shared_weight_is_listed_once_under_its_first_name():
    first, second, table = nn.Linear(3, 3), nn.Linear(3, 3), nn.Embedding(3, 3)
    second.weight = first.weight
    assert list(prunable(nn.Sequential(first, second))) == ["0.weight"]
    table.weight = first.weight
    assert list(prunable(nn.Sequential(table, first, second))) == ["0.weight"]


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (nn.ConvTranspose2d(2, 3, 3), ["weight"]),
        (nn.Bilinear(2, 3, 4), ["weight"]),
        (nn.LSTM(2, 4, proj_size=3), ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]),
        (nn.RNNCell(2, 3), ["weight_ih", "weight_hh"]),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), ["in_proj_weight", "out_proj.weight"]),
        (
            nn.MultiheadAttention(4, 2, kdim=3),
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
        ),
        (
            nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm((3, 4)), nn.BatchNorm1d(3), nn.Linear(4, 2)),
            ["3.weight"],
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_the_rule_which_weights_are_prunable(layer, names):
    assert list(prunable(layer)) == names
    masks = select(magnitude(layer), sparsity=1.0)
    masks.apply(layer)
    assert {n for n, p in layer.named_parameters() if not p.any() and "weight" in n} == set(names)
    assert list(magnitude(layer)) == list(Mask.dense(layer)) == names


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
    assert list(unit_norms(nn.Linear(2, 2))) == [""]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 300.0, 1e30])
def test_lengths_neither_overflow_nor_vanish(dtype, size):
    model = nn.Linear(2, 2, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0], [6.0, 8.0]]) * size)
    a, b, c, d = model.weight.double().flatten().tolist()
    assert unit_norms(model)[""].tolist() == pytest.approx([math.hypot(a, b), math.hypot(c, d)], rel=1e-15)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "compute",
    [lambda layer: prune.l1_unstructured(layer, "weight", 2), nn.utils.weight_norm, nn.utils.spectral_norm],
)
def test_a_computed_weight_is_refused_with_the_way_back(compute):
    model = nn.Sequential(nn.Linear(4, 3), compute(nn.Linear(3, 2)))
    for refuses in (prunable, magnitude, Mask.dense):
        with pytest.raises(ValueError, match=r"'weight\w*' of layer '1' is no parameter.*remove_weight_norm"):
            refuses(model)
    recurrent = nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    with pytest.raises(ValueError, match=r"'weight_hh_l0' of layer '' is no parameter"):
        prunable(recurrent)


def test_parametrised_layers_and_matrices_of_unknown_use():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix, self.scale = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))
            self.fc = parametrizations.weight_norm(nn.Linear(2, 2))

    model = Own()
    with pytest.warns(UserWarning, match="only their author knows whether they are weights: matrix$"):
        scores = magnitude(model)
    assert list(scores) == ["fc.weight"]
    assert torch.equal(scores["fc.weight"], model.fc.weight.detach().abs())


def test_what_has_no_scores():
    with pytest.raises(ValueError, match=r"ReLU has no layer with weights to prune"):
        prunable(nn.ReLU())
    with pytest.raises(ValueError, match=r"rows of '1\.weight_ih_l0' of LSTM are no units"):
        unit_norms(nn.Sequential(nn.Conv1d(2, 3, 2), nn.LSTM(3, 2)))
    with pytest.raises(TypeError, match="expected one torch module"):
        magnitude(Ensemble([nn.Linear(2, 2)]))
