"""Stacked perceptrons: outputs and steps against autograd, the flat order, masks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons, gaussian, uniform


def as_module(networks: Perceptrons, run: int) -> torch.nn.Sequential:
    """The same network, of ordinary layers."""
    layers: list[torch.nn.Module] = []
    for w, b in zip(networks.weights, networks.biases, strict=True):
        linear = torch.nn.Linear(w.shape[2], w.shape[1], dtype=torch.float64)
        linear.weight.data.copy_(w[run])
        linear.bias.data.copy_(b[run, :, 0])
        layers += [linear, torch.nn.Sigmoid()]
    if networks.head == "softmax":
        layers[-1] = torch.nn.Softmax(dim=1)
    return torch.nn.Sequential(*layers)


def batch(n_splits: int, m: int, sizes: tuple[int, ...], rng: np.random.Generator):
    x = torch.tensor(rng.standard_normal((n_splits, m, sizes[0])))
    targets = torch.tensor(rng.integers(0, 2, (n_splits, sizes[-1], m)).astype(float))
    return x, targets


CASES = [
    (head, sizes, m, n_splits)
    for head, sizes in (("sigmoid", (4, 6, 3)), ("sigmoid", (3, 5, 1)), ("softmax", (5, 7, 4, 3)))
    for m in (1, 16)
    for n_splits in (1, 3)
] + [("sigmoid", (4, 2), 1, 1)]


@pytest.mark.parametrize(("head", "sizes", "m", "n_splits"), CASES)
def test_fifty_steps_are_those_of_autograd(head, sizes, m, n_splits):
    rng = np.random.default_rng(1)
    networks = gaussian(sizes, range(6), scale=0.7, head=head)
    modules = [as_module(networks, run) for run in range(6)]
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.3) for module in modules]
    start = networks.flat()
    for _ in range(50):
        x, targets = batch(n_splits, m, sizes, rng)
        outputs = networks(x)
        for run, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            split = run // (6 // n_splits)
            output = module(x[split])
            torch.testing.assert_close(outputs[run], output.detach(), rtol=0, atol=1e-10)
            optimizer.zero_grad()
            (output - targets[split].T).square().mean().backward()
            optimizer.step()
        networks.step(x, targets, 0.3)
    assert (networks.flat() - start).abs().max() > 0.05
    for run, module in enumerate(modules):
        for layer, linear in enumerate(module[::2]):
            torch.testing.assert_close(networks.weights[layer][run], linear.weight.data, rtol=0, atol=1e-10)
            torch.testing.assert_close(
                networks.biases[layer][run, :, 0], linear.bias.data, rtol=0, atol=1e-10
            )


def test_one_set_of_examples_serves_all_networks():
    networks = gaussian((4, 6, 3), range(3))
    x = torch.tensor(np.random.default_rng(0).standard_normal((5, 4)))
    assert networks(x).shape == (3, 5, 3)
    torch.testing.assert_close(networks(x), networks(x[None]), rtol=0, atol=0)


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=4),
    st.integers(1, 3),
    st.integers(0, 10**6),
)
def test_flat_and_unflat_undo_each_other(sizes, n_runs, seed):
    networks = gaussian(sizes, range(seed, seed + n_runs))
    flat = networks.flat()
    assert flat.shape == (n_runs, sum(a * b for a, b in pairwise(sizes)))
    assert all(torch.equal(a, b) for a, b in zip(networks.unflat(flat), networks.weights, strict=True))
    assert len(networks.layer_of) == flat.shape[1]
    assert networks.sizes == tuple(sizes)


def test_the_flat_order_is_hidden_unit_by_hidden_unit_then_output_by_output():
    networks = gaussian((4, 6, 3), [0])
    flat = networks.flat()[0]
    for unit in range(6):
        for feature in range(4):
            assert flat[unit * 4 + feature] == networks.weights[0][0, unit, feature]
    for output in range(3):
        for unit in range(6):
            assert flat[24 + output * 6 + unit] == networks.weights[1][0, output, unit]
    assert networks.layer_of.tolist() == [0] * 24 + [1] * 18


def test_flat_is_a_copy():
    networks = gaussian((4, 6, 3), [0])
    before = networks.flat()
    x, targets = batch(1, 1, (4, 6, 3), np.random.default_rng(0))
    kept = before.clone()
    networks.step(x, targets, 1.0)
    assert torch.equal(before, kept)
    assert not torch.equal(networks.flat(), kept)


def test_masked_weights_are_zero_and_biases_and_the_original_stay():
    networks = gaussian((4, 6, 3), [0, 1])
    before = networks.flat()
    keep = torch.tensor(np.random.default_rng(0).random((2, 42)) < 0.5)
    masked = networks.masked(keep)
    assert torch.equal(masked.flat(), before * keep)
    assert torch.equal(networks.flat(), before)
    assert all(torch.equal(a, b) for a, b in zip(masked.biases, networks.biases, strict=True))


def test_pick_repeats_networks_and_copies_them():
    networks = gaussian((3, 2, 1), [5, 6])
    picked = networks.pick([1, 1, 0])
    assert torch.equal(picked.flat(), networks.flat()[[1, 1, 0]])
    picked.weights[0].zero_()
    assert networks.weights[0].abs().min() > 0


def test_a_seed_gives_the_same_network_whatever_the_others():
    alone, among = gaussian((4, 6, 3), [7]), gaussian((4, 6, 3), [3, 7, 9])
    assert torch.equal(alone.flat()[0], among.flat()[1])
    assert torch.equal(alone.biases[1][0], among.biases[1][1])


def test_laws_of_the_initial_weights():
    normal = gaussian((50, 40, 10), range(4), scale=0.1)
    assert normal.flat().std() == pytest.approx(0.1, rel=0.03)
    assert normal.biases[0].std() == pytest.approx(0.1, rel=0.2)
    flat = uniform((100, 25, 10), range(4))
    for w, b, bound in zip(flat.weights, flat.biases, (0.1, 0.2), strict=True):
        assert w.abs().max() <= bound
        assert b.abs().max() <= bound
        assert w.std() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gaussian((4, 3), [0], head="relu"), "sigmoid, softmax; got 'relu'"),
        (lambda: gaussian((4,), [0]), "at least two"),
        (lambda: gaussian((4, 0, 3), [0]), "each 1 or more"),
        (lambda: gaussian((4, 3), []), "at least one seed"),
        (lambda: gaussian((4, 3), [0], scale=0), "above 0; got 0"),
        (lambda: Perceptrons([torch.zeros(1, 2, 2)], []), "one bias tensor a layer; got 1 weights, 0 biases"),
    ],
)
def test_bad_networks_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
