"""Masks: a value that cannot change, and that holds."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from repro.learn.ensembles import Ensemble
from repro.prune import Mask, magnitude, select


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))


def bools(*values):
    return torch.tensor(values, dtype=torch.bool)


def test_counts_of_a_mask_written_by_hand():
    mask = Mask({"a": bools(1, 0, 0, 1), "b": bools(1, 1, 1, 0).reshape(2, 2)})
    assert (mask.n_weights, mask.n_kept, mask.n_pruned) == (8, 5, 3)
    assert mask.sparsity == 3 / 8
    assert mask == Mask(dict(mask)) != Mask({"a": mask["a"]})


def test_a_mask_does_not_change_with_what_it_was_made_from_nor_with_what_it_gives():
    source = bools(1, 0)
    mask = Mask({"a": source})
    source[0] = False
    mask["a"][1] = True
    assert torch.equal(mask["a"], bools(1, 0))
    with pytest.raises(TypeError):
        mask["a"] = bools(1, 1)
    assert pickle.loads(pickle.dumps(mask)) == mask


def test_applying_zeroes_the_pruned_weights_and_nothing_else_even_if_they_are_not_finite():
    model = network()
    mask = select(magnitude(model), sparsity=0.5)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model[0].weight[~mask["0.weight"]] = torch.nan
    assert not mask.holds(model)
    mask.apply(model)
    assert mask.holds(model)
    after = model.state_dict()
    for name in mask:
        expected = torch.where(mask[name], before[name], torch.zeros(()))
        assert torch.equal(after[name], expected)
    assert torch.equal(after["0.bias"], before["0.bias"])


OPTIMIZERS = {
    "momentum and weight decay": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def one_shot(optimizer_name, *, hold, mask_gradients=False):
    """Train 5 steps, prune half, train 20 steps; return how many pruned weights are back, of how many."""
    model, mask = nn.Linear(50, 10), None
    x, y = torch.randn(64, 50), torch.randint(10, (64,))
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    for step in range(25):
        if step == 5:
            mask = select(magnitude(model), sparsity=0.5)
            mask.apply(model)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        if mask and mask_gradients:
            model.weight.grad[~mask["weight"]] = 0
        optimizer.step()
        if mask and hold:
            mask(model, step)
    assert mask.holds(model) == hold
    return int(model.weight[~mask["weight"]].ne(0).sum()), mask.n_pruned


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_held_mask_keeps_weights_at_zero_and_without_it_all_come_back_even_with_masked_gradients(optimizer):
    assert one_shot(optimizer, hold=True) == (0, 250)
    assert one_shot(optimizer, hold=False) == (250, 250)
    assert one_shot(optimizer, hold=False, mask_gradients=True) == (250, 250)


def test_a_stacked_mask_is_held_for_each_member_by_itself():
    members = [network(seed) for seed in range(3)]
    singles = [select(magnitude(member), sparsity=0.4) for member in members]
    stacked, ensemble = Mask.stack(singles), Ensemble(members)
    stacked(ensemble, 1)
    assert stacked["0.weight"].shape == (3, 8, 5)
    assert stacked.sparsity == pytest.approx(singles[0].sparsity)
    assert all(single.holds(ensemble.member(i)) for i, single in enumerate(singles))
    assert not singles[0].holds(ensemble.member(1))
    singles[0].apply(ensemble)  # one mask serves all members
    assert singles[0].holds(ensemble.member(2))


def test_a_parametrised_layer_is_refused_until_it_is_folded_back():
    model = network()
    plain = magnitude(model)
    parametrizations.weight_norm(model[0])
    mask = select(magnitude(model), sparsity=0.5)
    assert mask == select(plain, sparsity=0.5)  # scores are of the effective weight
    original = Mask({"0.parametrizations.weight.original1": torch.ones(8, 5, dtype=torch.bool)})
    for own, to in ((mask, model), (original, model), (mask, Ensemble([model]))):
        with pytest.raises(ValueError, match="belongs to a parametrised layer"):
            own.apply(to)
    parametrize.remove_parametrizations(model[0], "weight", leave_parametrized=True)
    mask.apply(model)
    assert mask.holds(model)


def test_a_refused_mask_has_changed_nothing():
    model = network()
    before = copy.deepcopy(model.state_dict())
    half = torch.zeros(8, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"unknown model parameter '2\.wieght'; did you mean '2\.weight'\?"):
        Mask({"0.weight": half, "2.wieght": bools(0)}).apply(model)
    with pytest.raises(ValueError, match=r"'2\.weight' has shape \(1,\), the parameter \(3, 8\)"):
        Mask({"0.weight": half, "2.weight": bools(0)}).apply(model)
    with pytest.raises(ValueError, match=r"shape \(2, 8, 5\), the parameter \(3, 8, 5\)"):
        Mask.stack([Mask({"0.weight": half})] * 2).apply(Ensemble([model] * 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_no_mask():
    with pytest.raises(TypeError, match=r"bool tensors \(True = kept\); 'a' is"):
        Mask({"a": torch.ones(2)})
    with pytest.raises(ValueError, match="must name the same weights"):
        Mask.stack([Mask({"a": bools(1)}), Mask({"a": bools(1), "b": bools(1)})])
