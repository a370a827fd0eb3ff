"""Fits, cycles, diagonal networks: each as if alone, courses, divergence; pruning against slow sorts."""

from dataclasses import replace
from functools import partial
from itertools import product
from math import floor

import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import small_cnn
from torch import nn

from repro.learn import Ensemble, TrainingDivergedError, evaluate, perceptron, streams, train
from repro.papers.implicit_sparsification import training
from repro.papers.implicit_sparsification.method import METHODS, Algorithm1, Choice, pilot_factors, schedule
from repro.papers.implicit_sparsification.settings import _SETTINGS, _SparseRegression
from repro.papers.implicit_sparsification.training import _FAMILIES, _cycles, _descend, _fit, _smallest

SMALL = {"build": partial(perceptron, (64, 16, 10)), "parts": (150, 60, 60)}
TINY = replace(_SETTINGS["digits"], n_epochs=3, batch_size=50, **SMALL)
STRENGTHS, SEEDS = [1e-3, 4e-3], [3, 5]
FAST = [Choice(strength, "half", 0.2) for strength in STRENGTHS]
NAMES = ["1.weight", "3.weight"]
N_WEIGHTS = 64 * 16 + 16 * 10


@pytest.fixture(scope="module")
def pilots():
    return _fit(TINY, METHODS["pilot"], FAST, seeds=SEEDS)


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


def test_seeds_have_kaiming_normal_weights_of_their_own_whatever_the_global_generator():
    one, other = _SETTINGS["digits"].networks([0, 1])
    torch.manual_seed(5)
    (again,) = _SETTINGS["digits"].networks([1])
    for i in (1, 3, 5):
        assert torch.equal(other[i].weight, again[i].weight)
        assert not torch.equal(one[i].weight, other[i].weight)
        assert one[i].weight.std().item() == pytest.approx((2 / one[i].in_features) ** 0.5, rel=0.1)
        assert not one[i].bias.any()


@pytest.mark.parametrize("name", ["pilot_algorithm", "l1_x", "continuous_original", "str"])
def test_every_network_equals_its_run_alone(name):
    """Others have other strengths, schedules and knobs; alone it is no ensemble."""
    choices = [choice for choice in METHODS[name].choices if choice.rate == 0.1][4:8]
    together = _fit(TINY, METHODS[name], choices, seeds=SEEDS)
    alone = _fit(TINY, METHODS[name], choices[1:2], seeds=SEEDS[:1])
    assert together.start["1.weight"].shape[1:] == alone.start["1.weight"].shape[1:]
    for key, weight in alone.networks.parameters.items():
        torch.testing.assert_close(together.networks.parameters[key][2], weight[0], atol=1e-4, rtol=1e-4)


def test_pilot_agrees_with_a_plain_loop_that_adds_the_penalty_to_the_loss(pilots):
    strength, seed = STRENGTHS[1], SEEDS[0]
    (data,), (plain,) = TINY.data_sets([seed]), TINY.networks([seed])
    starts = {i: pilot_factors(plain[i].weight.detach().double()) for i in (1, 3)}
    factors = {i: [t.float().requires_grad_() for t in both] for i, both in starts.items()}
    biases = [plain[i].bias for i in (1, 3)]
    flat = [t for both in factors.values() for t in both]
    groups = [{"params": flat}, {"params": biases, "weight_decay": 1e-4}]
    stepper = torch.optim.SGD(groups, lr=0.2, momentum=0.9)
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


def test_a_network_of_images_alone_is_trained_like_one_in_an_ensemble(monkeypatch):
    """But for the crops, of which an ensemble draws one for each network."""
    monkeypatch.setattr(training.learn, "random_crop_flip", lambda x, generator: x)
    images = replace(TINY, build=partial(small_cnn, 2, batch_norm=True), images=True, n_epochs=1)
    alone, both = (_fit(images, METHODS["pilot"], FAST[:1] * n, seeds=[3]) for n in (1, 2))
    for name, weight in alone.networks.parameters.items():
        torch.testing.assert_close(weight[0], both.networks.parameters[name][0], atol=1e-3, rtol=1e-3)
    one, first = (fitted.pruned_accuracy([0.5])["test_accuracy"][0] for fitted in (alone, both))
    assert one == pytest.approx(first, abs=0.05)


def test_algorithm_1_sets_the_strengths_of_the_penalty_from_accuracies_and_norms(monkeypatch):
    seen = []

    def note(model, report, options):
        l1 = flat(model).abs().sum().item()
        seen.append((options["before_step"][0].strengths.item(), report.batch_accuracy.item(), l1))

    watch(monkeypatch, "after_epoch", note)
    _fit(TINY, METHODS["pilot_algorithm"], [Choice(1e-5, "algorithm 1", 0.2, 15.0)], seeds=[0], n_epochs=8)
    rule = Algorithm1(8, flat(TINY.networks([0])[0]).abs().sum(dim=1))
    alphas, numbers = torch.tensor(seen).split([1, 2], dim=1)
    for k in range(1, 8):
        accuracy, l1 = numbers[k - 1, :, None]
        torch.testing.assert_close(alphas[k], rule(alphas[k - 1], k, accuracy, l1), rtol=1e-5, atol=0)
    assert alphas.max() > alphas[0] == pytest.approx(1e-5)


def test_masks_grow_hotter_with_each_epoch(monkeypatch):
    seen = []
    note = lambda model, *_: seen.append(training._weight_tensors(model)["1.weight"][2].item())  # noqa: E731
    watch(monkeypatch, "after_epoch", note)
    _fit(TINY, METHODS["continuous_original"], [Choice(1e-3)], seeds=[0], n_epochs=3)
    assert seen == pytest.approx([1, 200 ** (1 / 3), 200 ** (2 / 3)])


def test_networks_that_diverge_are_told_of_and_the_others_go_on(pilots):
    found = _fit(TINY, METHODS["pilot"], [FAST[0], FAST[0]._replace(strength=1e3)], seeds=SEEDS)
    assert not any(weight[2:].isfinite().all() for weight in found.networks.parameters.values())
    for key, weight in found.networks.parameters.items():
        torch.testing.assert_close(weight[:2], pilots.networks.parameters[key][:2], atol=1e-4, rtol=1e-4)
    with pytest.raises(TrainingDivergedError, match="smaller learning rate"):
        _fit(TINY, METHODS["mw"], [Choice(0.0, rate=1e4)], seeds=SEEDS)


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
    done = _fit(TINY, METHODS["str"], [Choice(0.3), Choice(1e-4)], seeds=[3])
    zeros = done.pruned_accuracy([0.9])["zeros"]
    assert zeros.tolist() == pytest.approx((flat(done.networks) == 0).double().mean(dim=1).tolist())
    assert zeros[0] > zeros[1]


def test_sign_flips_agree_with_a_slow_count(pilots):
    generator = torch.Generator().manual_seed(0)
    start = {n: w * torch.randn(w.shape, generator=generator) for n, w in pilots.start.items()}
    start["1.weight"][:, 0] = 0.0  # what was 0 has not flipped
    found = replace(pilots, start=start).pruned_accuracy([0.0])["flips"]
    firsts, n_top = torch.cat([start[name].flatten(1) for name in NAMES], dim=1), round(0.05 * N_WEIGHTS)
    for flips, *pair in zip(found, flat(pilots.networks).tolist(), firsts.tolist(), strict=True):
        largest = sorted(zip(*pair, strict=True), key=lambda both: -abs(both[0]))[:n_top]
        assert flips == pytest.approx(sum(end * first < 0 for end, first in largest) / n_top)
    assert found.between(0.3, 0.7).all()
    balanced = _fit(TINY, METHODS["spred"], [Choice(1e-2, rate=0.01)], seeds=[0])
    assert balanced.pruned_accuracy([0.0])["flips"].item() == 0


# ---- cycles


@pytest.mark.parametrize(
    ("name", "strength", "rewind"),
    [("x", 0.0, "rates"), ("pilot", 2e-2, "rates"), ("pilot", 2e-2, "weights")],
)
def test_pruning_takes_the_smallest_holds_and_rewinds(monkeypatch, name, strength, rewind):
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
    table = _cycles(TINY, how, choices, seeds=SEEDS, rewind=rewind, n_cycles=2, n_epochs=3)
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


# ---- diagonal networks


def small(seed):
    return _SparseRegression.draw(seed, 15, 20, 3)


def runs(*settings):
    return pd.DataFrame(settings, columns=["schedule", "amplitude"])


def one_alone(problem, family, alphas, batches):
    """A run by itself: the objective written down, and PyTorch's derivative of it."""
    x0 = torch.tensor(problem.x0)
    if family == "l1_x":
        m, w = x0, torch.ones_like(x0)
    elif family == "spred":
        m, w = x0.abs().sqrt(), x0.sign() * x0.abs().sqrt()
    else:
        m = ((1 + (1 + 4 * x0**2).sqrt()) / 2).sqrt()
        w = x0 / m
    for alpha, rows in zip(alphas, batches, strict=True):
        m, w = m.detach().requires_grad_(), w.detach().requires_grad_()
        z, y = torch.tensor(problem.Z[rows]), torch.tensor(problem.y[rows])
        f = ((z @ (m * w) - y) ** 2).sum() / (2 * len(rows))
        penalty = m.abs().sum() if "l1" in family else (m**2).sum() + (w**2).sum()
        gm, gw = torch.autograd.grad(f + alpha * penalty, (m, w))
        m, w = m - 0.01 * gm, w if family == "l1_x" else w - 0.01 * gw
    return (m * w).detach().numpy()


@pytest.mark.parametrize("orders", [None, [3, 8]], ids=["full", "batches"])
@pytest.mark.parametrize("family", _FAMILIES)
def test_every_run_follows_the_path_it_would_follow_alone(family, orders):
    problems, n_steps = [small(0), small(1)], 25
    settings = [("constant", 0.15), ("harmonic", 3.0)]
    paths = _descend(problems, {family: runs(*settings)}, [0, n_steps], orders)[family]
    for p, order in enumerate([3, 8]):
        rng = np.random.default_rng([order, 5])
        if orders is None:
            batches = [np.arange(15)] * n_steps
        else:
            batches = [rows for _ in range(9) for rows in rng.permutation(15).reshape(3, 5)][:n_steps]
        for r, (name, amplitude) in enumerate(settings):
            alone = one_alone(problems[p], family, amplitude * schedule(name, n_steps), batches)
            np.testing.assert_allclose(paths[-1, p, r], alone, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(paths[0, p, r], problems[p].x0, rtol=1e-14)


def test_the_balanced_start_keeps_every_sign_and_the_unbalanced_one_does_not():
    problems = [_SparseRegression.draw(seed) for seed in range(3)]
    settings = runs(*((name, 16.0) for name in ("geometric", "harmonic")))
    paths = _descend(problems, dict.fromkeys(("spred", "pilot"), settings), range(0, 1_501, 50))
    against = {family: np.sign(x) * np.sign(x[0]) < 0 for family, x in paths.items()}
    assert not against["spred"].any()
    assert against["pilot"][-1].any(axis=-1).all()
