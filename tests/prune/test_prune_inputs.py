"""Scores, masks and sets whose containers mean more than their numbers: read for what they mean, or refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from repro.prune import Mask, magnitude, select, select_units, summarize, unit_mask
from repro.prune.overlap import agreement, expected_jaccard, jaccard
from repro.prune.selection import keep_highest

VALUES = torch.tensor([3.0, -1.0, 2.0, 0.0])
BITS = VALUES > 0

SELECT = {
    "select": lambda scores: select({"w": scores}, n_pruned=2)["w"],
    "select, layer": lambda scores: select({"w": scores}, n_pruned=2, scope="layer")["w"],
    "select_units": lambda scores: select_units(scores, n_pruned=2),
}
MASKS = {
    "Mask": lambda bits: Mask({"w": bits})["w"],
    "unit_mask": lambda bits: unit_mask(nn.Linear(3, 4), "", bits)["bias"],
}
every_selection = pytest.mark.parametrize("f", SELECT.values(), ids=SELECT)
every_mask = pytest.mark.parametrize("f", MASKS.values(), ids=MASKS)


@every_selection
@pytest.mark.parametrize(
    "make",
    [nn.Parameter, lambda x: (-1j * x).conj().imag, lambda x: x.bfloat16(), lambda x: x.repeat(2, 1).T[:, 0]],
    ids=["parameter", "negative view", "bfloat16", "strides"],
)
def test_the_same_scores_in_another_tensor(f, make):
    assert f(make(VALUES)).tolist() == BITS.tolist()


@every_selection
@pytest.mark.parametrize("start", [2**53, -(2**53) - 3, 2**62])
def test_whole_scores_that_float64_does_not_tell_apart_are_refused(f, start):
    with pytest.raises(ValueError, match=r"integers must be below 2\*\*53; those of .* reach -?\d{16}"):
        f(torch.arange(start, start + 4))


def test_the_largest_whole_scores_are_told_apart():
    top = 2**53 - 1
    assert (
        select({"w": torch.tensor([top, top - 1, 2 - top, 1 - top])}, n_pruned=3)["w"].tolist()
        == [True] + [False] * 3
    )
    assert keep_highest(torch.tensor([2**60 + 1, 2**60]), 1).tolist() == [True, False]


def masked(values):
    return torch.masked.masked_tensor(values, torch.ones_like(values, dtype=torch.bool))


NO_PLAIN_TENSORS = [
    (lambda x: x.to_sparse(), "torch.sparse_coo"),
    (lambda x: x.to("meta"), "on meta"),
    (masked, "MaskedTensor"),
    (lambda x: x.numpy(), "ndarray"),
    (lambda x: x.tolist(), "list"),
]


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize(("make", "message"), NO_PLAIN_TENSORS)
def test_what_is_no_plain_tensor_is_refused(make, message):
    for f in SELECT.values():
        with pytest.raises(TypeError, match=f"scores must be real, dense tensors; .* are .*{message}"):
            f(make(VALUES))
    for f in MASKS.values():
        with pytest.raises(TypeError, match=f"bool tensor.*{message}"):
            f(make(BITS))


@every_mask
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_numbers_are_no_mask(f, dtype):
    with pytest.raises(TypeError, match=f"bool tensor.*{dtype}"):
        f(BITS.to(dtype))


def test_what_is_not_by_name_is_refused():
    with pytest.raises(TypeError, match="tensors by parameter name, got a Tensor"):
        select(VALUES, n_pruned=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tensors by parameter name, got a list"):
        Mask([BITS])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected one torch module, got a dict"):
        Mask({"w": BITS}).apply({"w": VALUES})


def test_what_a_mask_has_removed_elsewhere_is_not_forgotten():
    with pytest.raises(
        ValueError, match="within speaks of bias, which have no scores; combine it by & afterwards"
    ):
        select({"weight": VALUES}, n_pruned=1, within=Mask({"bias": ~BITS}))


def test_one_tensor_under_two_names_is_pruned_once():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    assert select(magnitude(model), sparsity=0.5).n_weights == 4
    with pytest.raises(ValueError, match=r"unknown model parameter '1\.weight'"):
        select(magnitude(model, ["0.weight", "1.weight"]), sparsity=0.5).apply(model)


def test_frozen_weights_are_pruned_like_others():
    model = nn.Linear(2, 2).requires_grad_(False)
    select(magnitude(model), sparsity=1.0).apply(model)
    assert not model.weight.any()


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.ones(3), torch.ones(3)),
        (np.ones(3, np.uint8), np.ones(3, np.uint8)),
        (np.ones((3, 1), bool), np.ones(3, bool)),
        (torch.ones(2, 3) > 0, torch.ones(2, 3) > 0),
    ],
    ids=["numbers", "uint8", "shapes that broadcast", "matrices"],
)
@pytest.mark.parametrize("f", [jaccard, agreement])
def test_sets_that_are_no_bool_vectors_are_refused(f, a, b):
    with pytest.raises(
        (ValueError, TypeError), match=r"two sets are bool vectors of one length|integer and Boolean"
    ):
        f(a, b)


def test_impossible_sizes_of_sets_are_refused():
    with pytest.raises(ValueError, match="between 0 and n = 4, got 5 and 2"):
        expected_jaccard(5, 2, 4)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"seed": [0, None]}, "1 rows have no seed"),
        ({"method": ["a", None]}, "1 rows have no method"),
        ({"accuracy": ["0.5", "0.6"]}, "column 'accuracy' must hold numbers"),
        ({"accuracy": pd.array([1, None], dtype="Int64")}, "finite numbers, got nan"),
    ],
)
def test_rows_without_a_key_or_a_number_are_refused(columns, message):
    frame = pd.DataFrame({"method": "a", "seed": [0, 1], "sparsity": 0.5, "accuracy": 0.9} | columns)
    with pytest.raises(ValueError, match=message):
        summarize(frame)


def test_a_level_in_per_cent_is_refused():
    with pytest.raises(ValueError, match="level must lie strictly between 0 and 1, got 95"):
        summarize(pd.DataFrame({"method": "a", "seed": [0, 1], "sparsity": 0.5, "accuracy": 0.9}), level=95)
