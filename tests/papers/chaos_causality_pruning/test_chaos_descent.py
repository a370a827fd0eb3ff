"""Training of stacked perceptrons, against the library's ordinary training and scikit-learn's measures."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.metrics import f1_score

from repro.learn.data import Dataset
from repro.learn.training import train
from repro.papers.chaos_causality_pruning.descent import (
    Examples,
    accuracy,
    batches,
    descend,
    examples,
    loss,
    macro_f1,
)
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons, gaussian


def iris(seed: int = 0, n: int = 30) -> Examples:
    x, y = load_iris(return_X_y=True)
    chosen = np.random.default_rng(seed).permutation(150)[:n]
    return examples(((x - x.mean(0)) / x.std(0))[chosen], y[chosen], 3)


def telling(outputs: np.ndarray, head: str) -> tuple[Perceptrons, np.ndarray]:
    """A network and inputs for which its last layer is fed ``outputs``, one row an example."""
    weights = torch.tensor(np.asarray(outputs, dtype=float).T[None])
    biases = torch.zeros(1, weights.shape[1], 1, dtype=torch.float64)
    return Perceptrons([weights], [biases], head), np.eye(len(outputs))


@pytest.mark.parametrize(("head", "batch_size"), [("sigmoid", 1), ("sigmoid", 7), ("softmax", 16)])
def test_training_is_that_of_ordinary_modules(head, batch_size):
    data = iris()
    networks = gaussian((4, 6, 5, 3), [3, 4], scale=0.6, head=head)
    modules = []
    for run in range(2):
        last = torch.nn.Sigmoid() if head == "sigmoid" else torch.nn.Softmax(dim=1)
        linear = [torch.nn.Linear(i, o, dtype=torch.float64) for i, o in ((4, 6), (6, 5), (5, 3))]
        for layer, w, b in zip(linear, networks.weights, networks.biases, strict=True):
            layer.weight.data.copy_(w[run])
            layer.bias.data.copy_(b[run, :, 0])
        sigmoid = torch.nn.Sigmoid()
        modules.append(torch.nn.Sequential(linear[0], sigmoid, linear[1], sigmoid, linear[2], last))
    x, y = data.x[0], data.y[0]
    same = Dataset(x, y, x[:0], y[:0], x[:0], y[:0], 3, "iris")
    one_hot = torch.eye(3, dtype=torch.float64)
    for module in modules:
        train(
            module,
            same,
            optimizer=partial(torch.optim.SGD, lr=0.5),
            n_epochs=4,
            batch_size=batch_size,
            loss=lambda out, classes: (out - one_hot[classes]).square().mean(1),
            shuffle=False,
            device="cpu",
        )
    start = networks.flat()
    descend(networks, data, learning_rate=0.5, n_epochs=4, batch_size=batch_size)
    assert (networks.flat() - start).abs().max() > 0.05
    for run, module in enumerate(modules):
        for layer, linear in enumerate(module[::2]):
            torch.testing.assert_close(networks.weights[layer][run], linear.weight.data, rtol=0, atol=1e-10)
            torch.testing.assert_close(
                networks.biases[layer][run, :, 0], linear.bias.data, rtol=0, atol=1e-10
            )


def test_splits_learn_apart():
    one, other = iris(0), iris(1)
    both = examples(torch.cat([one.x, other.x]).numpy(), torch.cat([one.y, other.y]).numpy(), 3)
    stack = gaussian((4, 6, 3), [0, 1, 2, 3])
    descend(stack, both, learning_rate=0.5, n_epochs=3)
    for data, seeds, place in ((one, [0, 1], slice(0, 2)), (other, [2, 3], slice(2, 4))):
        alone = gaussian((4, 6, 3), seeds)
        descend(alone, data, learning_rate=0.5, n_epochs=3)
        torch.testing.assert_close(stack.flat()[place], alone.flat(), rtol=0, atol=1e-12)
        for measure in (accuracy, loss, macro_f1):
            np.testing.assert_allclose(measure(stack, both)[place], measure(alone, data), atol=1e-12)


@given(
    st.integers(2, 4).flatmap(
        lambda k: st.tuples(
            st.just(k),
            st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=12),
        )
    )
)
def test_macro_f1_is_scikit_learns_whatever_classes_are_missing(drawn):
    k, pairs = drawn
    true, said = np.array(pairs).T
    networks, x = telling(4 * np.eye(k)[said] - 2, "sigmoid")
    expected = f1_score(true, said, average="macro")
    assert macro_f1(networks, examples(x, true, k))[0] == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12))
def test_macro_f1_of_a_single_output_is_scikit_learns(pairs):
    true, said = np.array(pairs).T
    networks, x = telling(4 * said[:, None] - 2, "sigmoid")
    expected = f1_score(true, said, average="macro")
    assert macro_f1(networks, examples(x, true, 1))[0] == pytest.approx(expected, abs=1e-6)


def test_sigmoid_accuracy_is_strict_and_softmax_accuracy_is_not():
    fed = np.array([[2, -1, -1], [2, 1, -1], [-1, -2, -3], [-1, 2, -1]])
    # right; right and a second output lights up; nothing lights up; wrong
    classes = [0, 0, 0, 2]
    for head, expected in (("sigmoid", 0.25), ("softmax", 0.75)):
        networks, x = telling(fed, head)
        assert accuracy(networks, examples(x, classes, 3))[0] == expected
    networks, x = telling(np.array([[0.1], [-0.1], [-3]]), "sigmoid")
    assert accuracy(networks, examples(x, [1, 1, 0], 1))[0] == pytest.approx(2 / 3)


def test_loss_is_the_mean_square_over_examples_and_outputs():
    data, networks = iris(), gaussian((4, 6, 3), [1, 2])
    expected = (networks(data.x[0]) - torch.eye(3)[data.y[0]]).square().mean((1, 2))
    np.testing.assert_allclose(loss(networks, data), expected.numpy(), rtol=1e-12)


def test_masked_weights_are_zero_after_every_update_and_biases_are_not_masked():
    data, networks = iris(), gaussian((4, 6, 3), [0, 1])
    keep = torch.tensor(np.random.default_rng(0).random((2, 42)) < 0.5)
    seen = []

    def look(update: int, current: Perceptrons) -> None:
        assert bool((current.flat()[~keep] == 0).all())
        seen.append((update, [b.clone() for b in current.biases]))

    descend(networks, data, learning_rate=0.5, n_epochs=2, keep=keep, after_update=[look])
    assert [update for update, _ in seen] == list(range(61))
    assert bool((networks.flat()[keep] != 0).all())
    # a hidden unit with no way to the output left has no gradient
    heard = networks.unflat(keep)[1].any(1)
    for first, last, moves in zip(seen[0][1], seen[-1][1], (heard, torch.ones(2, 3)), strict=True):
        assert bool((first != 0).all())
        assert torch.equal((first != last)[:, :, 0], moves.bool())


def test_zeroing_weights_is_the_same_as_masking_the_gradient():
    data = iris()
    keep = torch.tensor(np.random.default_rng(0).random((1, 42)) < 0.5)
    networks = gaussian((4, 6, 3), [0])
    w1, w2 = (w[0].clone() for w in networks.masked(keep).weights)
    b1, b2 = (b[0, :, 0].clone() for b in networks.biases)
    m1, m2 = (m[0] for m in networks.unflat(keep))
    tensors = [t.requires_grad_() for t in (w1, w2, b1, b2)]
    for i in range(30):
        output = torch.sigmoid(w2 @ torch.sigmoid(w1 @ data.x[0, i] + b1) + b2)
        gradients = torch.autograd.grad((output - data.targets[0, :, i]).square().mean(), tensors)
        with torch.no_grad():
            for t, g, m in zip(tensors, gradients, (m1, m2, 1, 1), strict=True):
                t -= 0.5 * g * m
    descend(networks, data, learning_rate=0.5, n_epochs=1, keep=keep)
    torch.testing.assert_close(networks.weights[0][0], w1.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(networks.weights[1][0], w2.detach(), rtol=0, atol=1e-12)


def test_a_mask_that_keeps_all_changes_no_bit():
    free, masked = gaussian((4, 6, 3), [0, 1]), gaussian((4, 6, 3), [0, 1])
    descend(free, iris(), learning_rate=0.5, n_epochs=3)
    descend(masked, iris(), learning_rate=0.5, n_epochs=3, keep=torch.ones(2, 42, dtype=torch.bool))
    assert all(torch.equal(a, b) for a, b in zip(free.tensors, masked.tensors, strict=True))


def test_training_stops_when_told_and_counts_epochs_from_zero():
    epochs, updates = [], []

    def stop(epoch: int, _: Perceptrons) -> bool:
        epochs.append(epoch)
        return epoch == 2

    descend(
        gaussian((4, 6, 3), [0]),
        iris(),
        learning_rate=0.5,
        n_epochs=9,
        batch_size=8,
        after_update=[lambda update, _: updates.append(update)],
        after_epoch=stop,
    )
    assert epochs == [0, 1, 2]
    assert updates[-1] == 3 * 4


def test_batches_hold_every_example_once_an_epoch():
    fixed = batches(10, 4, "fixed", 0)
    for _ in range(2):
        assert [b.tolist() for b in next(fixed)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    mixed, again = batches(10, 4, "reshuffled", 3), batches(10, 4, "reshuffled", 3)
    epochs = [torch.cat(next(mixed)).tolist() for _ in range(3)]
    assert [torch.cat(next(again)).tolist() for _ in range(3)] == epochs
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"order": "random"}, "fixed, reshuffled; got 'random'"),
        ({"learning_rate": 0.0}, "above 0"),
        ({"n_epochs": 0}, "got 0.5, 0 and 1"),
        ({"batch_size": 0}, "got 0.5, 1 and 0"),
        ({"keep": torch.ones(2, 41, dtype=torch.bool)}, r"\(2, 42\); got \(2, 41\)"),
    ],
)
def test_bad_training_is_refused_before_any_update(change, words):
    networks = gaussian((4, 6, 3), [0, 1])
    before = networks.flat()
    with pytest.raises(ValueError, match=words):
        descend(networks, iris(), **({"learning_rate": 0.5, "n_epochs": 1} | change))
    assert torch.equal(networks.flat(), before)


def test_networks_must_be_as_many_for_each_split():
    both = examples(np.zeros((2, 5, 4)), np.zeros((2, 5), int), 3)
    with pytest.raises(ValueError, match="3 for 2 splits"):
        descend(gaussian((4, 6, 3), [0, 1, 2]), both, learning_rate=0.5, n_epochs=1)


@pytest.mark.parametrize(
    ("x", "y", "n_outputs", "words"),
    [
        (np.zeros((3, 2)), [0, 1, 3], 3, "classes 0 to 2; got 0 to 3"),
        (np.zeros((3, 2)), [0, 1, 2], 1, "classes 0 to 1; got 0 to 2"),
        (np.zeros((3, 2)), [0, -1, 1], 2, "got -1 to 1"),
        (np.zeros((3, 2)), [0, 1], 2, "as many classes"),
        (np.zeros((0, 2)), [], 2, "at least one"),
        (np.zeros(3), [0, 1, 1], 2, r"\(n, features\)"),
    ],
)
def test_bad_examples_are_refused(x, y, n_outputs, words):
    with pytest.raises(ValueError, match=words):
        examples(x, y, n_outputs)


def test_targets_of_one_and_of_several_outputs():
    assert examples(np.zeros((3, 2)), [0, 1, 1], 1).targets.tolist() == [[[0, 1, 1]]]
    assert examples(np.zeros((3, 2)), [0, 2, 1], 3).targets.tolist() == [[[1, 0, 0], [0, 0, 1], [0, 1, 0]]]
