"""SNIP, GraSP and SynFlow against derivatives taken by differences, and what SynFlow conserves."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from repro.head_to_head import methods
from repro.head_to_head.methods import grasp, snip, synflow
from repro.learn import Ensemble, perceptron


@pytest.fixture
def case():
    members = [perceptron((3, 4, 2), "tanh").double() for _ in range(2)]
    x, y = torch.randn(2, 7, 3, dtype=torch.float64), torch.randint(2, (2, 7))
    return members, x, y


def _loss(member: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(member(x), y)


def _half_square_of_gradient(member: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    weights = [p for name, p in member.named_parameters() if name.endswith("weight")]
    return sum(g.square().sum() / 2 for g in torch.autograd.grad(_loss(member, x, y), weights))


def _by_gates(member, name, of, x, y, h=1e-5):
    """The derivative with respect to a gate of each weight, w(1 + g), at g = 0, by central differences."""
    weight = member.get_parameter(name)
    start, found = weight.detach().clone(), torch.zeros_like(weight.data)
    for i in range(weight.numel()):
        for sign in (1, -1):
            weight.data.view(-1)[i] = start.view(-1)[i] * (1 + sign * h)
            found.view(-1)[i] += sign * of(member, x, y).detach() / (2 * h)
        weight.data.copy_(start)
    return found


@pytest.mark.parametrize("name", ["1.weight", "3.weight"])
def test_snip_and_grasp_are_what_a_gate_does_to_the_loss_and_to_the_squared_gradient(case, name):
    members, x, y = case
    by_snip, by_grasp = (score(Ensemble(members), x, y)[name] for score in (snip, grasp))
    for i, member in enumerate(members):
        expected = _by_gates(member, name, _loss, x[i], y[i]).abs()
        torch.testing.assert_close(by_snip[i], expected, atol=1e-9, rtol=1e-6)
        expected = _by_gates(member, name, _half_square_of_gradient, x[i], y[i])
        torch.testing.assert_close(by_grasp[i], expected, atol=1e-9, rtol=1e-5)


@pytest.fixture
def seen(monkeypatch):
    """The scores of each round."""
    found, lowest = [], methods._lowest
    monkeypatch.setattr(
        methods, "_lowest", lambda scores, sparsity: found.append(scores) or lowest(scores, sparsity)
    )
    return found


def test_synflow_multiplies_what_flows_through_a_weight(case, seen):
    """In two layers the score of w_ji is |w_ji| times the sum of |v_kj|: one round by hand."""
    _, x, _ = case
    linear = [perceptron((3, 4, 2), "identity", bias=False).double() for _ in range(2)]
    synflow(Ensemble(linear), x, 0.5)
    for i, member in enumerate(linear):
        w, v = member[1].weight.detach().abs(), member[2].weight.detach().abs()
        torch.testing.assert_close(seen[0]["1.weight"][i], w * v.sum(dim=0)[:, None])
        torch.testing.assert_close(seen[0]["2.weight"][i], v * w.sum(dim=1)[None, :])
    assert len(seen) == 100


def test_synflow_conserves_flow_and_empties_no_layer(seen):
    networks = Ensemble([perceptron((20, 30, 30, 5), bias=False) for _ in range(3)])
    x = torch.randn(3, 1, 20)
    mask = synflow(networks, x, 0.98)
    for scores in seen:  # as much flows into a layer as out of it
        total = torch.stack([values.flatten(1).sum(dim=1) for values in scores.values()])
        torch.testing.assert_close(total, total[:1].expand_as(total), rtol=1e-9, atol=0)
    assert all(bool(mask[name].flatten(1).any(dim=1).all()) for name in mask)
