"""Losses far below underflow; independent members, the rule of the steps, checkpoints and endings."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from repro.learn.ensembles import Ensemble
from repro.learn.networks import perceptron
from repro.papers.ewn_inductive_bias.method import normalize_weights
from repro.papers.ewn_inductive_bias.training import _descend, _log_loss


@given(st.floats(0.1, 2000.0), st.integers(0, 10_000))
def test_the_gradient_of_cross_entropy_is_autograds_at_any_scale(size, seed):
    torch.manual_seed(seed)
    scores = (size * torch.randn(3, 6, 4, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, 4, (3, 6))
    right = F.one_hot(labels, 4).bool()
    gaps = scores - scores.masked_select(right).reshape(3, 6, 1)
    a = torch.logsumexp(gaps.masked_fill(right, -math.inf), -1)
    near, far = F.softplus(a.clamp(min=-30), threshold=40).log(), a - 0.5 * a.clamp(max=-30).exp()
    expected = torch.logsumexp(torch.where(a < -30, far, near), -1) - math.log(6)
    (gradient,) = torch.autograd.grad(expected.sum(), scores)
    value, slope = _log_loss(scores.detach(), labels, "cross-entropy")
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, gradient, rtol=1e-9, atol=1e-12)


def points(n=12):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    y = torch.where(x[:, 0] + 0.5 * x[:, 1] > 0, 1.0, -1.0).double()
    return x + 0.3 * y.unsqueeze(1), y


def members(method, n=4, width=6):
    made = []
    for seed in range(n):
        torch.manual_seed(seed)
        made.append(normalize_weights(perceptron((2, width, 1), bias=(True, False)).double(), method))
    return made


@pytest.mark.parametrize(("method", "batch_size"), [("swn", None), ("ewn", 6)])
def test_each_member_trains_as_if_it_were_alone_on_its_data(method, batch_size):
    x, y = points()
    own_x, own_y = torch.stack([x, 1.5 * x.flip(0)]), torch.stack([y, y.flip(0)])
    rule = {"targets": (0.0, 1.0), "batch_size": batch_size, "max_steps": 300}
    together = _descend(Ensemble(members(method, 2)), own_x, own_y, "logistic", seeds=[0, 1], **rule)
    assert together.steps[0, -1] != together.steps[1, -1], "one must leave before the other"
    for i, member in enumerate(members(method, 2)):
        alone = _descend(Ensemble([member]), own_x[i], own_y[i], "logistic", seeds=[i], **rule)
        assert alone.status[0] == together.status[i]
        np.testing.assert_array_equal(alone.steps[0], together.steps[i])
        assert alone.z[0] == pytest.approx(together.z[i], rel=1e-9)
        for name, value in alone.states[-1].items():
            torch.testing.assert_close(together.states[-1][name][i], value[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("lag", [False, True])
def test_the_step_rule_equals_a_slow_loop(lag):
    """One plain network, exponent 0.9, against autograd and float64 scalars.

    With the lag, the loss that sets the step and ends the training is the one before the last kept step, at first 1.
    """
    x, y = points()
    (member,) = members("plain", 1)
    rule = {"exponent": 0.9, "k_max": 30.0, "grow": 1.3, "shrink": 1.1, "lag": lag}
    found = _descend(Ensemble([member]), x, y, "logistic", (20.0,), **rule)
    k, parameters = 0.01, list(member.parameters())

    def loss():
        return float(F.softplus(-y * member(x).squeeze(1)).sum().detach())

    losses = [1.0, loss()] if lag else [loss()]
    while losses[-2 if lag else -1] > np.exp(-20.0):
        gradients = torch.autograd.grad(F.softplus(-y * member(x).squeeze(1)).sum(), parameters)
        before = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p.sub_(k * losses[-2 if lag else -1] ** -0.9 * g)
            if loss() <= losses[-1]:
                losses.append(loss())
                k = k * 1.3 if k < 30.0 else k
            else:
                for p, b in zip(parameters, before, strict=True):
                    p.copy_(b)
                k /= 1.1
    assert found.steps[0, -1] == len(losses) - 1 - lag
    assert found.z[0] == pytest.approx(-np.log(losses[-1]), rel=1e-6)
    for name, p in member.named_parameters():
        torch.testing.assert_close(found.states[-1][name][0], p.detach(), rtol=1e-5, atol=1e-8)


def test_checkpoints_are_the_first_states_beyond_their_targets_even_far_below_underflow():
    x, y = points()
    found = _descend(Ensemble(members("ewn", 2)), x, y, "logistic", (5.0, 100.0, 1000.0))
    assert found.status == ["reached"] * 2
    np.testing.assert_array_equal(found.steps[:, -1], found.steps[:, -2])
    assert (found.z > 1000).all()
    for j, target in enumerate(found.targets):
        first, bias, second = (found.states[j][name] for name in ("1.weight", "1.bias", "3.weight"))
        scores = (x @ first.mT + bias.unsqueeze(1)).relu() @ second.mT
        assert (-_log_loss(scores, y, "logistic")[0] > target).all()
        for i, member in enumerate(members("ewn", 2)):
            ends_there = _descend(Ensemble([member]), x, y, "logistic", (target,))
            assert (ends_there.steps[0] == found.steps[i, j]).all()


def test_the_ensemble_is_left_alone_and_what_is_not_trained_does_not_move():
    networks = members("swn", 2)
    plain = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in members("plain", 2)]
    for network in networks:
        network[1].bias.requires_grad_(False)
    ensemble = Ensemble(networks)
    before = ensemble.state_dict()
    found = _descend(ensemble, *points(), "logistic", (3.0,))
    assert all(torch.equal(ensemble.parameters[name], value) for name, value in before.items())
    for name in plain[0]:
        start = torch.stack([own[name] for own in plain])
        torch.testing.assert_close(found.start[name], start, rtol=1e-13, atol=1e-15)
        assert torch.equal(found.states[-1][name], found.start[name]) == (name == "1.bias")


def test_every_ending_has_its_name():
    x, y = points()
    with torch.no_grad():
        normal, dead = members("plain", 2)
        dead[1].weight.zero_()
        dead[1].bias.fill_(-1.0)
    found = _descend(Ensemble([normal, dead]), x, y, "logistic", (5.0, 8.0))
    assert found.status == ["reached", "flat"]
    assert found.steps[1, -1] == 0
    assert np.isnan(found.steps[:, 1]).tolist() == [False, True]
    assert found.states[1]["1.weight"][1].isnan().all()
    assert not found.states[1]["1.weight"][0].isnan().any()
    tired = _descend(Ensemble(members("ewn", 1)), x, y, "logistic", (5.0,), max_steps=3)
    assert tired.status == ["max_steps"]
