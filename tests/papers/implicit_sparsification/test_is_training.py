"""Fits and cycles: every network as if it were alone, courses, folding, divergence; pruning against slow sorts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from math import floor

import numpy as np
import pytest
import torch
from torch import nn

from repro.learn import Ensemble, TrainingDivergedError, evaluate, perceptron, streams, train
from repro.papers.implicit_sparsification import training
from repro.papers.implicit_sparsification.method import METHODS, Choice, _weight_tensors, pilot_factors
from repro.papers.implicit_sparsification.settings import _SETTINGS
from repro.papers.implicit_sparsification.training import _smallest, cycles, fit

SMALL = {"build": partial(perceptron, (64, 16, 10)), "parts": (150, 60, 60)}
TINY = replace(_SETTINGS["digits"], n_epochs=3, batch_size=50, **SMALL)
STRENGTHS, SEEDS = [1e-3, 4e-3], [3, 5]
FAST = [Choice(strength, "half", 0.2) for strength in STRENGTHS]
NAMES = ["1.weight", "3.weight"]
N_WEIGHTS = 64 * 16 + 16 * 10


@pytest.fixture(scope="module")
def pilots():
    return fit(TINY, METHODS["pilot"], FAST, seeds=SEEDS)


def flat(model):
    """All weights, one row a network."""
    members = model if isinstance(model, Ensemble) else [model]
    return torch.stack([torch.cat([m[i].weight.detach().flatten() for i in (1, 3)]) for m in members])


def watch(monkeypatch, hook, note):
    """Have every training call ``note(model, report or step, options)`` at a hook, before all others that are there."""

    def watched(model, datasets, **options):
        first = lambda model, seen: note(model, seen, options)  # noqa: E731
        return train(model, datasets, **options | {hook: [first, *options[hook]]})

    monkeypatch.setattr(training.learn, "train", watched)


# ---- a network as if it were alone


@pytest.mark.parametrize("name", ["pilot_algorithm", "l1_x", "continuous_original", "str"])
def test_every_network_equals_its_run_alone(name):
    """Others have other strengths, schedules and knobs; alone it is no ensemble."""
    choices = [choice for choice in METHODS[name].choices if choice.rate == 0.1][4:8]
    together = fit(TINY, METHODS[name], choices, seeds=SEEDS)
    alone = fit(TINY, METHODS[name], choices[1:2], seeds=SEEDS[:1])
    assert together.start["1.weight"].shape[1:] == alone.start["1.weight"].shape[1:]
    for key, weight in alone.networks.parameters.items():
        torch.testing.assert_close(together.networks.parameters[key][2], weight[0], atol=1e-4, rtol=1e-4)


def test_pilot_agrees_with_a_plain_loop_that_adds_the_penalty_to_the_loss(pilots):
    strength, seed = STRENGTHS[1], SEEDS[0]
    (data,), (plain,) = TINY.data_sets([seed]), TINY.networks([seed])
    factors = {
        i: [torch.as_tensor(t, dtype=torch.float32).requires_grad_() for t in pilot_factors(w)]
        for i, w in ((i, plain[i].weight.detach().double().numpy()) for i in (1, 3))
    }
    biases = [plain[i].bias for i in (1, 3)]
    flat = [t for both in factors.values() for t in both]
    stepper = torch.optim.SGD(
        [{"params": flat}, {"params": biases, "weight_decay": 1e-4}], lr=0.2, momentum=0.9
    )
    alphas, shuffle = [strength, strength * 0.8, strength * 0.64], streams(seed).shuffle
    for k, alpha in enumerate(alphas):
        rate = 0.1 * (1 + np.cos(np.pi * k / 3))
        for group in stepper.param_groups:
            group["lr"] = rate
        for some in torch.randperm(150, generator=shuffle).split(50):
            h = torch.relu(data.x_train[some] @ (factors[1][0] * factors[1][1]).T + biases[0])
            outputs = h @ (factors[3][0] * factors[3][1]).T + biases[1]
            penalty = sum((t**2).sum() for t in flat)
            stepper.zero_grad()
            (nn.functional.cross_entropy(outputs, data.y_train[some]) + alpha * penalty).backward()
            stepper.step()
    for i in (1, 3):
        expected = (factors[i][0] * factors[i][1]).detach()
        found = pilots.networks.parameters[f"{i}.weight"][2]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_from_the_weights_of_the_seed(name):
    how = METHODS[name]
    choices = [choice for choice in how.choices if choice.rate == 0.1]
    plain = Ensemble(TINY.networks([0])).parameters
    found = fit(TINY, how, choices, seeds=[0], n_epochs=2)
    weights = found.networks.parameters
    assert all(weight.isfinite().all() for weight in weights.values())
    assert [Choice(*row) for row in found.members[list(Choice._fields)].to_numpy()] == choices
    assert set(weights) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    for key, start in found.start.items():
        assert not torch.allclose(weights[key], start, atol=1e-4)
        torch.testing.assert_close(start, plain[key].detach().expand_as(start), atol=1e-5, rtol=1e-5)


def test_a_network_of_images_alone_is_trained_like_one_in_an_ensemble(
    monkeypatch,
):
    """But for the crops, of which an ensemble draws one for each network."""
    monkeypatch.setattr(training.learn, "random_crop_flip", lambda x, generator: x)
    images = replace(TINY, build=tiny_convolutions, images=True, n_epochs=1)
    choice = Choice(1e-3, "half", 0.1)
    alone = fit(images, METHODS["pilot"], [choice], seeds=[3])
    both = fit(images, METHODS["pilot"], [choice, choice], seeds=[3])
    for name, weight in alone.networks.parameters.items():
        torch.testing.assert_close(weight[0], both.networks.parameters[name][0], atol=1e-3, rtol=1e-3)
    accuracy = alone.pruned_accuracy([0.0, 0.5])["test_accuracy"]
    assert accuracy.tolist() == pytest.approx(
        both.pruned_accuracy([0.0, 0.5])["test_accuracy"][::2], abs=0.05
    )


def tiny_convolutions():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))


def test_algorithm_1_sets_the_strengths_of_the_penalty_from_accuracies_and_norms(monkeypatch):
    seen = []

    def note(model, report, options):
        l1 = flat(model).abs().sum().item()
        seen.append((options["before_step"][0].strengths.item(), l1, report.batch_accuracy.item()))

    watch(monkeypatch, "after_epoch", note)
    fit(TINY, METHODS["pilot_algorithm"], [Choice(1e-5, "algorithm 1", 0.2, 15.0)], seeds=[0], n_epochs=8)
    least = 0.03 * flat(TINY.networks([0])[0]).abs().sum().item()
    alpha, before, expected = 1e-5, 0.0, []
    for k, (_, l1, accuracy) in enumerate(seen, start=1):
        expected.append(alpha)
        up = accuracy >= before and l1 >= least and k <= 4
        alpha, before = alpha * 15**0.25 if up else alpha / 15**0.25, accuracy
    assert [alpha for alpha, _, _ in seen] == pytest.approx(expected, rel=1e-6)
    assert max(expected) > 1e-5


def test_masks_grow_hotter_with_each_epoch(monkeypatch):
    seen = []
    note = lambda model, *_: seen.append(_weight_tensors(model)["1.weight"][2].item())  # noqa: E731
    watch(monkeypatch, "after_epoch", note)
    fit(TINY, METHODS["continuous_original"], [Choice(1e-3)], seeds=[0], n_epochs=3)
    assert seen == pytest.approx([1, 200 ** (1 / 3), 200 ** (2 / 3)])


def test_networks_that_diverge_are_told_of_and_the_others_go_on(pilots):
    found = fit(TINY, METHODS["pilot"], [FAST[0], FAST[0]._replace(strength=1e3)], seeds=SEEDS)
    assert not any(weight[2:].isfinite().all() for weight in found.networks.parameters.values())
    for key, weight in found.networks.parameters.items():
        torch.testing.assert_close(weight[:2], pilots.networks.parameters[key][:2], atol=1e-4, rtol=1e-4)
    with pytest.raises(TrainingDivergedError, match="smaller learning rate"):
        fit(TINY, METHODS["mw"], [Choice(0.0, rate=1e4)], seeds=SEEDS)


# ---- pruning in one shot


def test_accuracies_are_those_of_each_network_with_exactly_its_smallest_weights_removed(pilots):
    sparsities = (0.0, 0.29, 0.8, 1.0)
    table = pilots.pruned_accuracy(sparsities).set_index(["strength", "seed", "sparsity"])
    for (i, member), sparsity in product(enumerate(pilots.members.itertuples(index=False)), sparsities):
        network, data = pilots.networks.member(i), pilots.datasets[i]
        with torch.no_grad():
            (weights,) = flat(network)
            order = np.argsort(weights.abs().numpy(), kind="stable")
            weights[order[: floor(round(sparsity * N_WEIGHTS, 6))]] = 0
            nn.utils.vector_to_parameters(weights, [network.get_parameter(name) for name in NAMES])
        for part in ("validation", "test"):
            x, y = getattr(data, f"x_{part}"), getattr(data, f"y_{part}")
            right = (network(x).argmax(dim=1) == y).double().mean().item()
            found = table.loc[(member.strength, member.seed, sparsity), f"{part}_accuracy"]
            assert found == pytest.approx(right, abs=1e-12)


def test_zeros_are_those_that_a_threshold_leaves():
    done = fit(TINY, METHODS["str"], [Choice(0.3), Choice(1e-4)], seeds=[3])
    zeros = done.pruned_accuracy([0.9])["zeros"]
    assert zeros.tolist() == pytest.approx((flat(done.networks) == 0).double().mean(dim=1).tolist())
    assert zeros[0] > zeros[1]


def test_sign_flips_agree_with_a_slow_count(pilots):
    generator = torch.Generator().manual_seed(0)
    draws = {name: torch.randn(weight.shape, generator=generator) for name, weight in pilots.start.items()}
    start = {name: weight * draws[name] for name, weight in pilots.start.items()}
    start["1.weight"][:, 0] = 0.0  # what was 0 has not flipped
    found = replace(pilots, start=start).pruned_accuracy([0.0])
    n_top = round(0.05 * N_WEIGHTS)
    for i, flips in enumerate(found["flips"]):
        ends, firsts = (
            [w for name in NAMES for w in weights[name][i].flatten().tolist()]
            for weights in (pilots.networks.parameters, start)
        )
        largest = sorted(zip(ends, firsts, strict=True), key=lambda pair: -abs(pair[0]))[:n_top]
        assert flips == pytest.approx(sum(end * first < 0 for end, first in largest) / n_top)
    assert found["flips"].between(0.3, 0.7).all()
    balanced = fit(TINY, METHODS["spred"], [Choice(1e-2, rate=0.01)], seeds=[0])
    assert balanced.pruned_accuracy([0.0])["flips"].item() == 0


# ---- cycles


@pytest.mark.parametrize(
    ("name", "strength", "rewind"),
    [("x", 0.0, "rates"), ("pilot", 2e-2, "rates"), ("pilot", 2e-2, "weights")],
)
def test_pruning_takes_exactly_the_smallest_and_holds_and_rewinds_go_where_they_should(
    monkeypatch, name, strength, rewind
):
    before, steps, accuracies, batch_orders = [], [], [], []

    def watched(ensemble, datasets, *, after_step, **options):
        before.append(flat(ensemble))
        steps.append([])
        batch_orders.extend(options["seed"])
        note = lambda model, step: steps[-1].append(flat(model))  # noqa: E731
        train(ensemble, datasets, after_step=[*after_step, note], **options)
        for network, data in zip(ensemble, datasets, strict=True):
            parts = ((data.x_validation, data.y_validation), (data.x_test, data.y_test))
            accuracies.append([evaluate(network, *part)[1].item() for part in parts])

    monkeypatch.setattr(training.learn, "train", watched)
    how, choices = METHODS[name], [Choice(strength, "half", 0.1 if name == "x" else 0.2)]
    table = cycles(TINY, how, choices, seeds=SEEDS, rewind=rewind, n_cycles=2, n_epochs=3)
    np.testing.assert_allclose(table[["validation_accuracy", "test_accuracy"]], accuracies, atol=1e-12)
    assert table[["cycle", "seed"]].values.tolist() == [[k, seed] for k in range(3) for seed in SEEDS]
    counts = [N_WEIGHTS // 2**k for k in range(3)]
    assert table["sparsity"].tolist() == pytest.approx([1 - n / N_WEIGHTS for n in counts for _ in SEEDS])
    early = steps[0][2 * 3 - 1]  # the second epoch, three steps each
    earlier = torch.zeros(len(SEEDS), N_WEIGHTS, dtype=torch.bool)
    for cycle in range(3):
        zeros = before[cycle] == 0
        assert zeros.sum(dim=1).tolist() == [N_WEIGHTS - counts[cycle]] * len(SEEDS)
        assert (zeros >= earlier).all()
        assert all((weights[zeros] == 0).all() for weights in steps[cycle])
        if cycle:
            trained = steps[cycle - 1][-1]
            start = early if rewind == "weights" else trained
            assert torch.equal(before[cycle][~zeros], start[~zeros])
            for size, gone in zip(trained.abs(), zeros, strict=True):
                assert size[gone].max() <= size[~gone].min()
        earlier = zeros
    assert not torch.equal(earlier[0], earlier[1])
    assert len(set(batch_orders)) == 2 * 3  # an order of batches of its own for each network and cycle


def test_weights_pruned_before_go_before_others_at_zero_and_those_that_are_no_numbers_first():
    networks = Ensemble(TINY.networks(SEEDS))
    half = N_WEIGHTS // 2
    before = _smallest(networks, n_pruned=half)
    for name, weight in networks.parameters.items():
        if name in before:
            weight.data *= ~before[name]  # training brings all others to 0
    assert _smallest(networks, before, n_pruned=half) == before
    networks.parameters["1.weight"].data[1] = float("nan")  # a network that diverged
    assert not _smallest(networks, n_pruned=64 * 16)["1.weight"][1].any()
