"""Scores: what can be pruned, and how it is ranked."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from repro.learn.ensembles import Ensemble
from repro.prune import Mask, magnitude, prunable, random, select, unit_norms


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


def test_a_shared_weight_is_listed_once_under_its_first_name():
    first, second, table = nn.Linear(3, 3), nn.Linear(3, 3), nn.Embedding(3, 3)
    second.weight = first.weight
    assert list(prunable(nn.Sequential(first, second))) == ["0.weight"]
    table.weight = first.weight
    assert list(prunable(nn.Sequential(table, first, second))) == ["0.weight"]


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (nn.Conv1d(2, 3, 3), ["weight"]),
        (nn.ConvTranspose2d(2, 3, 3), ["weight"]),
        (nn.Bilinear(2, 3, 4), ["weight"]),
        (nn.LSTM(2, 4, proj_size=3), ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]),
        (
            nn.GRU(2, 3, bidirectional=True),
            [f"weight_{w}_l0{end}" for end in ("", "_reverse") for w in ("ih", "hh")],
        ),
        (nn.RNNCell(2, 3), ["weight_ih", "weight_hh"]),
        (nn.MultiheadAttention(4, 2, add_bias_kv=True), ["in_proj_weight", "out_proj.weight"]),
        (
            nn.MultiheadAttention(4, 2, kdim=3),
            ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"],
        ),
        (
            nn.TransformerEncoderLayer(4, 2, 8),
            ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"],
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


def test_all_weights_of_the_last_layer_are_left_out_together():
    model = nn.ModuleList([nn.Linear(2, 3), nn.LSTM(3, 2)])
    assert list(prunable(model, include_last=False)) == ["0.weight"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("compute", "remedy"),
    [
        (lambda layer: prune.l1_unstructured(layer, "weight", 2), r"prune\.remove\(layer, 'weight'\)"),
        (nn.utils.weight_norm, r"remove_weight_norm\(layer, 'weight'\)"),
        (nn.utils.spectral_norm, r"remove_spectral_norm\(layer, 'weight'\)"),
    ],
)
def test_a_computed_weight_is_refused_with_the_way_back(compute, remedy):
    model = nn.Sequential(nn.Linear(4, 3), compute(nn.Linear(3, 2)))
    message = (
        rf"'1\.weight' is no parameter, it is computed before each use by torch.nn.utils.*: {remedy} makes"
    )
    for refuses in (prunable, magnitude, Mask.dense, Mask({"1.weight": torch.ones(2, 3) > 0}).apply):
        with pytest.raises(ValueError, match=message):
            refuses(model)
    with pytest.raises(ValueError, match=message):
        magnitude(model, ["1.weight"])
    assert list(magnitude(model, ["0.weight"])) == ["0.weight"]


def test_other_weights_that_are_no_parameters_are_refused():
    layer = nn.Linear(3, 2)
    del layer.weight
    layer.register_buffer("weight", torch.ones(2, 3))
    with pytest.raises(
        ValueError, match=r"'weight' is no parameter.* by hand; only an nn\.Parameter can be pruned"
    ):
        prunable(layer)
    with pytest.warns(FutureWarning):
        recurrent = nn.utils.weight_norm(nn.LSTM(3, 4), "weight_hh_l0")
    with pytest.raises(ValueError, match=r"remove_weight_norm\(layer, 'weight_hh_l0'\)"):
        prunable(recurrent)
    with pytest.raises(ValueError, match=r"'0\.weight' has no shape yet: run the network on one batch"):
        prunable(nn.Sequential(nn.LazyLinear(3)))


def test_a_matrix_of_unknown_use_is_named_and_can_be_chosen():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.scale = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))
            self.fc = nn.Linear(2, 2)

    model = Own()
    with pytest.warns(UserWarning, match="only their author knows whether they are weights: matrix; names="):
        assert list(magnitude(model)) == ["fc.weight"]
    scores = magnitude(model, ["matrix", "fc.weight"])
    select(scores, sparsity=1.0).apply(model)
    assert not model.matrix.any()


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 300.0, 1e30])
def test_lengths_neither_overflow_nor_vanish(dtype, size):
    model = nn.Linear(2, 2, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, 4.0], [6.0, 8.0]]) * size)
    a, b, c, d = model.weight.double().flatten().tolist()
    assert unit_norms(model)[""].tolist() == pytest.approx([math.hypot(a, b), math.hypot(c, d)], rel=1e-15)


def test_layers_whose_rows_are_no_units_have_no_lengths():
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.LSTM(3, 2))
    with pytest.raises(ValueError, match=r"rows of '1\.weight_ih_l0' of LSTM are no units; say by names"):
        unit_norms(model)
    assert unit_norms(model, ["0.weight"])["0"].shape == (3,)


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
    with pytest.raises(
        ValueError, match=r"ReLU has no nn\.Linear or nn\.Conv2d to prune, nor another layer with weights$"
    ):
        prunable(nn.ReLU())
    with pytest.raises(ValueError, match="besides its last layer"):
        prunable(nn.Linear(2, 2), include_last=False)
    with pytest.raises(ValueError, match=r"'conv\.weigth'; did you mean 'conv\.weight'\?"):
        magnitude(Residual(), ["conv.weigth"])
    with pytest.raises(ValueError, match=r"need generator=torch\.Generator"):
        random(Residual())
    with pytest.raises(TypeError, match=r"got a Ensemble; take its members one by one: model\.member"):
        magnitude(Ensemble([nn.Linear(2, 2)]))  # type: ignore[arg-type]
