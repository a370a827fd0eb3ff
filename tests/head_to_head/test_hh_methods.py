"""Every method keeps its promises; penalties and forms take the steps that their formulas say."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from repro.head_to_head import METHODS, TASKS, Budget
from repro.head_to_head.methods import _penalised, named
from repro.learn import Dataset, Ensemble
from repro.papers.implicit_sparsification.method import pilot_factors

SPARSITIES = (0.0, 0.5, 0.95)


@pytest.fixture(scope="module")
def drawn():
    return TASKS["digits"].draw((3, 4))


@pytest.mark.parametrize("label", METHODS)
def test_masks_are_nested_exact_and_of_plain_networks(label, drawn):
    networks, datasets = drawn
    before = networks.state_dict()
    budget = Budget(4, 128, 0.1, METHODS[label].knobs[0], (3, 4))
    candidates = METHODS[label].prune(networks, datasets, budget, SPARSITIES)
    assert list(candidates) == list(SPARSITIES)
    n = sum(p[0].numel() for name, p in networks.parameters.items() if name.endswith("weight"))
    nested = label not in ("SynFlow",)  # which draws each sparsity's own hundred rounds
    kept = None
    for sparsity, (found, mask) in candidates.items():
        assert found.parameters.keys() == before.keys()  # folded
        for i in range(2):
            assert sum(int(mask[name][i].sum()) for name in mask) == n - int(sparsity * n)
        if kept and nested:
            assert all(bool((kept[name] | ~mask[name]).all()) for name in mask)
        kept = mask
    assert all(torch.equal(before[name], values) for name, values in networks.state_dict().items())


def _one_step_apart(form):
    """A linear layer on made data, whose one batch is all of it, after one epoch of a method."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2, bias=False))
    x, y = torch.randn(20, 3), torch.randint(2, (20,))
    data = Dataset(x, y, x, y, x, y, 2, "made")
    budget = Budget(2, 20, 0.1, 0.05, (0,))
    candidates = _penalised(form, "constant")(Ensemble([network]), [data], budget, (0.0,))
    start = network[0].weight.detach()

    def gradient(weight):
        weight = weight.detach().requires_grad_()
        return torch.autograd.grad(functional.cross_entropy(x @ weight.T, y), weight)[0]

    return start, gradient, candidates[0.0][0].parameters["0.weight"][0].detach()


def test_penalties_and_forms_take_the_steps_of_their_formulas():
    start, gradient, found = _one_step_apart("l1_x")
    torch.testing.assert_close(found, start - 0.1 * (gradient(start) + 2 * 0.05 * start.sign()))
    start, gradient, found = _one_step_apart("spred")  # x = m w with m² = w² at the start, and both decay
    m, w = pilot_factors(start, beta=0.0)
    g = gradient(m * w)
    expected = (m - 0.1 * (g * w + 2 * 0.05 * m)) * (w - 0.1 * (g * m + 2 * 0.05 * w))
    torch.testing.assert_close(found, expected)


def test_all_methods_try_as_many_choices_and_a_list_of_methods_is_read():
    assert {len(set(method.choices)) for method in METHODS.values()} == {32}
    assert named("all") == list(METHODS)
    assert named("PILoT, L1") == ["PILoT", "L1"]
    with pytest.raises(ValueError, match=r"pilo.*PILoT"):
        named("magnitude,pilo")
