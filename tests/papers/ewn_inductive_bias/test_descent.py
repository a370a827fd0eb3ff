"""Descent: members are independent, steps obey the rule, checkpoints and endings are what they say."""

import numpy as np
import pytest
import torch
from torch import nn

from repro.learn.ensembles import Ensemble
from repro.learn.networks import perceptron
from repro.papers.ewn_inductive_bias.descent import descend, squared_lengths
from repro.papers.ewn_inductive_bias.log_losses import LogLoss
from repro.papers.ewn_inductive_bias.parametrizations import lengths, normalize_weights

LOGISTIC = LogLoss("logistic")


def planar_points(n: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    y = torch.where(x[:, 0] + 0.5 * x[:, 1] > 0, 1.0, -1.0).double()
    return x + 0.3 * y.unsqueeze(1), y


def members(method: str, n: int = 4, width: int = 6) -> list[nn.Module]:
    made = []
    for seed in range(n):
        torch.manual_seed(seed)
        made.append(normalize_weights(perceptron((2, width, 1), bias=(True, False)).double(), method))
    return made


@pytest.mark.parametrize("method", ["plain", "swn", "ewn"])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_each_member_trains_as_if_it_were_alone(method, batch_size):
    x, y = planar_points()
    settings = {"log_loss": LOGISTIC, "targets": (1.0, 3.0), "batch_size": batch_size, "max_steps": 250}
    together = descend(Ensemble(members(method)), x, y, seeds=range(4), **settings)
    assert len(set(together.n_attempts)) > 1, "members must end at different times to test their leaving"
    for i, member in enumerate(members(method)):
        alone = descend(Ensemble([member]), x, y, seeds=[i], **settings)
        assert alone.status[0] == together.status[i]
        assert alone.n_attempts[0] == together.n_attempts[i]
        assert alone.z[0] == pytest.approx(together.z[i], rel=1e-9)
        for name, value in alone.final.items():
            torch.testing.assert_close(together.final[name][i], value[0], rtol=1e-7, atol=1e-9)


def test_data_of_their_own_is_the_same_as_separate_runs():
    x, y = planar_points()
    order = [torch.arange(12), torch.arange(12).flip(0)[:12]]
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    own_x = torch.stack([x[o] @ (weights if i == 0 else 1.5 * weights) for i, o in enumerate(order)])
    own_y = torch.stack([y[o] for o in order])
    both = descend(
        Ensemble(members("ewn", 2)), own_x, own_y, per_member=True, log_loss=LOGISTIC, targets=(5.0,)
    )
    for i, member in enumerate(members("ewn", 2)):
        alone = descend(Ensemble([member]), own_x[i], own_y[i], log_loss=LOGISTIC, targets=(5.0,))
        assert alone.z[0] == pytest.approx(both.z[i], rel=1e-9)


def test_the_step_rule_equals_a_slow_loop():
    """One plain network, exponent 0.9, authors' factors, against autograd and float64 scalars."""
    x, y = planar_points()
    (member,) = members("plain", 1)
    found = descend(
        Ensemble([member]), x, y, log_loss=LOGISTIC, targets=(20.0,), exponent=0.9, k_max=0.05, grow=1.1,
        shrink=1.1, record_every=1,
    )  # fmt: skip
    k, parameters = 0.01, list(member.parameters())
    loss = torch.nn.functional.softplus(-y * member(x).squeeze(1)).sum()
    steps = 0
    zs = [-float(loss.detach().log())]
    while loss > np.exp(-20.0):
        gradients = torch.autograd.grad(loss, parameters)
        before = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p.sub_(k * float(loss.detach()) ** -0.9 * g)
        new = torch.nn.functional.softplus(-y * member(x).squeeze(1)).sum()
        if new <= loss:
            loss = new
            k = k * 1.1 if k < 0.05 else k
        else:
            with torch.no_grad():
                for p, b in zip(parameters, before, strict=True):
                    p.copy_(b)
            loss = torch.nn.functional.softplus(-y * member(x).squeeze(1)).sum()
            k /= 1.1
        steps += 1
        zs.append(-float(loss.detach().log()))
    assert found.n_attempts[0] == steps
    np.testing.assert_allclose(found.history["z"], zs, rtol=1e-6)
    assert (np.diff(found.history["z"]) >= 0).all()


def test_a_window_lets_the_loss_rise_but_not_above_the_window():
    x, y = planar_points()
    settings = {
        "log_loss": LOGISTIC,
        "targets": (30.0,),
        "record_every": 1,
        "k0": 0.3,
        "grow": 1.1,
        "shrink": 1.1,
    }
    z = descend(Ensemble(members("plain", 1)), x, y, window=5, **settings).history["z"].to_numpy()
    assert (np.diff(z) < 0).any()
    kept = [z[0]]
    for value in z[1:]:
        if value != kept[-1]:
            assert value >= min(kept[-5:]) - 1e-12
            kept.append(value)


def test_checkpoints_are_the_first_states_beyond_their_targets_even_far_below_underflow():
    x, y = planar_points()
    ensemble = Ensemble(members("ewn"))
    found = descend(ensemble, x, y, log_loss=LOGISTIC, targets=(5.0, 100.0, 1000.0), record_every=1)
    assert found.status == ("reached",) * 4
    assert (found.z > 1000).all()
    for j, target in enumerate(found.targets):
        z = -LOGISTIC(ensemble(x, parameters=found.checkpoints[target]), y)
        assert (z > target).all()
        history = found.history.set_index(["member", "step"])["z"]
        for i in range(4):
            step = int(found.attempts_to[i, j])
            assert history[i, step] == pytest.approx(float(z[i]), rel=1e-12)
            assert history[i, step - 1] <= target
    assert found.reached(5.0).all()
    assert (found.n_accepted <= found.n_attempts).all()


def test_the_ensemble_is_left_alone_and_frozen_parameters_do_not_move():
    x, y = planar_points()
    ensemble = Ensemble(members("swn", 2))
    before = {n: p.detach().clone() for n, p in ensemble.parameters.items()}
    found = descend(ensemble, x, y, log_loss=LOGISTIC, targets=(3.0,), frozen=["1.bias"], record_lengths=True)
    for name, value in before.items():
        assert torch.equal(ensemble.parameters[name], value)
        assert torch.equal(found.start[name], value)
        assert torch.equal(found.final[name], value) == (name == "1.bias")
    assert found.lengths["1"].shape == (found.history["step"].nunique(), 2, 6)
    np.testing.assert_allclose(found.lengths["1"][0], lengths(found.weights()["1"], batched=True))


def test_every_ending_has_its_name():
    x, y = planar_points()
    with torch.no_grad():
        normal, dead = members("plain", 2)
        dead[1].weight.zero_()
        dead[1].bias.fill_(-1.0)
    settings = {"log_loss": LOGISTIC, "targets": (5.0, 8.0)}
    found = descend(Ensemble([normal, dead]), x, y, **settings)
    assert found.status == ("reached", "flat")
    assert found.n_attempts[1] == 0
    assert found.reached(8.0).tolist() == [True, False]
    assert found.checkpoints[8.0]["1.weight"][1].isnan().all()
    assert not found.checkpoints[8.0]["1.weight"][0].isnan().any()
    # points that no network can tell apart: the loss cannot fall below log(2) a point
    same = torch.ones_like(x)
    stuck = descend(Ensemble(members("ewn", 1)), same, y, patience=300, **settings)
    assert stuck.status == ("stuck",)
    assert stuck.z[0] < 0
    assert descend(Ensemble(members("ewn", 1)), x, y, max_steps=3, **settings).status == ("max_steps",)
    with pytest.raises(ValueError, match=r"no checkpoint at z = 7"):
        found.weights(7.0)


@pytest.mark.parametrize("method", ["swn", "ewn"])
def test_renormalizing_keeps_directions_at_unit_length(method):
    x, y = planar_points()
    settings = {"log_loss": LOGISTIC, "targets": (20.0,), "k0": 0.1}
    kept = descend(Ensemble(members(method, 2)), x, y, renormalize=True, **settings)
    free = descend(Ensemble(members(method, 2)), x, y, **settings)
    name = "1.parametrizations.weight.original1"
    assert (lengths(kept.final[name], batched=True) - 1).abs().max() < 1e-12
    assert lengths(free.final[name], batched=True).max() > 1.001


def test_squared_length_multiplier_makes_a_plain_network_follow_ewn():
    """Claim E18 in small: over small steps the control follows EWN and plain training does not."""
    x, y = planar_points()
    settings = {"log_loss": LOGISTIC, "targets": (1.0,), "k0": 4e-3, "k_max": 4e-3}
    multiplier = {"1.weight": squared_lengths, "3.weight": squared_lengths}

    def end(method: str, **more: object) -> torch.Tensor:
        return descend(Ensemble(members(method, 2)), x, y, **settings, **more).weights(1.0)["1"]

    ewn, control, plain = end("ewn"), end("plain", gradient_multiplier=multiplier), end("plain")
    assert (control - ewn).abs().max() < 0.01 * ewn.abs().max()
    assert (plain - ewn).abs().max() > 0.05 * ewn.abs().max()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": (5.0, 3.0)}, "rising order, got"),
        ({"targets": ()}, "at least one finite number"),
        ({"k0": 0.0}, "k0 and k_max must be positive, got 0.0"),
        ({"shrink": 1.0}, "shrink larger than 1"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"frozen": ["9.weight"]}, "frozen: no parameter '9.weight'"),
        ({"gradient_multiplier": {"w": squared_lengths}}, "gradient_multiplier: no parameter 'w'"),
        ({"batch_size": 4}, "one seed a member"),
        ({"batch_size": 0, "seeds": [0]}, "batch_size must be at least 1, got 0"),
        ({"max_steps": 0}, "max_steps and record_every must be at least 1, got 0"),
    ],
)
def test_bad_input(wrong, message):
    x, y = planar_points()
    with pytest.raises(ValueError, match=message):
        descend(Ensemble(members("plain", 1)), x, y, log_loss=LOGISTIC, **wrong)
    with pytest.raises(ValueError, match="labels -1 and"):
        descend(Ensemble(members("plain", 1)), x, y + 1, log_loss=LOGISTIC)
