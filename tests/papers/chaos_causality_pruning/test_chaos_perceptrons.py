"""Stacked perceptrons: outputs, steps, training and retraining against ordinary modules, autograd and plain loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_iris
from sklearn.metrics import f1_score

from repro.papers.chaos_causality_pruning.perceptrons import _Examples, _Perceptrons

IRIS_X, IRIS_Y = load_iris(return_X_y=True)
IRIS_X = (IRIS_X - IRIS_X.mean(0)) / IRIS_X.std(0)


def iris(seed: int = 0, n: int = 30) -> _Examples:
    chosen = np.random.default_rng(seed).permutation(150)[:n]
    return _Examples.of(IRIS_X[chosen], IRIS_Y[chosen], 3)


def drawn(sizes, n: int, head: str = "sigmoid") -> _Perceptrons:
    """Networks with weights so large that a few steps change them."""
    networks = _Perceptrons.drawn(sizes, range(n))
    for tensor in networks.tensors:
        tensor.mul_(7)
    return _Perceptrons(networks.weights, networks.biases, head)


def as_module(networks: _Perceptrons, run: int) -> torch.nn.Sequential:
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


def test_the_flat_order_is_layer_by_layer_row_by_row():
    networks = _Perceptrons.drawn((4, 6, 3), [5, 6])
    rows = [w[:, unit] for w in networks.weights for unit in range(w.shape[1])]
    assert torch.equal(networks.flat(), torch.cat(rows, 1))
    assert networks.layer_of.tolist() == [0] * 24 + [1] * 18
    again = networks.unflat(networks.flat())
    assert all(torch.equal(a, b) for a, b in zip(again, networks.weights, strict=True))


def test_laws_of_the_initial_weights_and_seeds_that_do_not_depend_on_others():
    normal = _Perceptrons.drawn((50, 40, 10), range(4))
    assert normal.flat().std() == pytest.approx(0.1, rel=0.03)
    assert normal.biases[0].std() == pytest.approx(0.1, rel=0.2)
    flat = _Perceptrons.drawn((100, 25, 10), range(4), "softmax")
    for w, b, bound in zip(flat.weights, flat.biases, (0.1, 0.2), strict=True):
        assert max(w.abs().max(), b.abs().max()) <= bound
        assert w.std() == pytest.approx(bound / 3**0.5, rel=0.05)
    alone = _Perceptrons.drawn((50, 40, 10), [2])
    assert all(torch.equal(a[0], b[2]) for a, b in zip(alone.tensors, normal.tensors, strict=True))


def telling(outputs, head: str) -> tuple[_Perceptrons, np.ndarray]:
    """A network and inputs for which its last layer is fed ``outputs``, one row an example."""
    weights = torch.tensor(np.asarray(outputs, dtype=float).T[None])
    biases = torch.zeros(1, weights.shape[1], 1, dtype=torch.float64)
    return _Perceptrons([weights], [biases], head), np.eye(len(outputs))


@given(st.data(), st.integers(1, 4))
def test_macro_f1_is_scikit_learns_whatever_classes_are_missing(data, k):
    classes = st.integers(0, max(1, k - 1))
    true, said = np.array(data.draw(st.lists(st.tuples(classes, classes), min_size=1, max_size=12))).T
    networks, x = telling(4 * np.eye(k)[said] - 2 if k > 1 else 4 * said[:, None] - 2, "sigmoid")
    expected = f1_score(true, said, average="macro")
    assert networks.macro_f1(_Examples.of(x, true, k))[0] == pytest.approx(expected, abs=1e-6)


def test_sigmoid_accuracy_is_strict_and_softmax_accuracy_is_not():
    # right; right and a second output lights up; nothing lights up; wrong
    fed, classes = [[2, -1, -1], [2, 1, -1], [-1, -2, -3], [-1, 2, -1]], [0, 0, 0, 2]
    for head, expected in (("sigmoid", 0.25), ("softmax", 0.75)):
        networks, x = telling(fed, head)
        assert networks.accuracy(_Examples.of(x, classes, 3))[0] == expected
    networks, x = telling([[0.1], [-0.1], [-3]], "sigmoid")
    assert networks.accuracy(_Examples.of(x, [1, 1, 0], 1))[0] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("head", "sizes", "batch_size"),
    [("sigmoid", (4, 6, 3), 1), ("sigmoid", (4, 6, 5, 3), 7), ("softmax", (4, 6, 3), 16)],
)
def test_training_is_that_of_autograd_one_network_and_split_at_a_time(head, sizes, batch_size):
    one, other = iris(0), iris(1)
    both = _Examples.of(torch.cat([one.x, other.x]), torch.cat([one.y, other.y]), 3)
    networks = drawn(sizes, 4, head)
    modules = [as_module(networks, run) for run in range(4)]
    keep = np.random.default_rng(0).random(networks.flat().shape) < 0.8
    zeros: list[bool] = []
    look = lambda: zeros.append(not networks.flat()[torch.tensor(~keep)].any())  # noqa: E731
    how = {"n_epochs": 2, "batch_size": batch_size, "keep": keep, "after_update": look}
    networks.descend(both, learning_rate=0.5, **how)
    assert zeros == [True] * (1 + 2 * -(-30 // batch_size))
    masks = networks.unflat(torch.tensor(keep))
    for run, (module, data) in enumerate(zip(modules, (one, one, other, other), strict=True)):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        for index in [None, *torch.arange(30).split(batch_size), *torch.arange(30).split(batch_size)]:
            if index is not None:
                optimizer.zero_grad()
                (module(data.x[0, index]) - torch.eye(3)[data.y[0, index]]).square().mean().backward()
                optimizer.step()
            for mask, linear in zip(masks, module[::2], strict=True):
                linear.weight.data.mul_(mask[run])
        for w, b, linear in zip(networks.weights, networks.biases, module[::2], strict=True):
            torch.testing.assert_close(w[run], linear.weight.data, rtol=0, atol=1e-10)
            torch.testing.assert_close(b[run, :, 0], linear.bias.data, rtol=0, atol=1e-10)
        for measure in (_Perceptrons.accuracy, _Perceptrons.loss, _Perceptrons.macro_f1):
            assert measure(networks, both)[run] == pytest.approx(measure(networks.pick([run]), data)[0])


def test_reshuffled_epochs_hold_every_example_once_in_another_order(monkeypatch):
    data, seen = iris(n=10), []
    monkeypatch.setattr(_Perceptrons, "step", lambda _, x, *__: seen.append(x[0]))
    for _ in range(2):
        how = {"learning_rate": 1, "n_epochs": 2, "batch_size": 4, "reshuffle": True}
        _Perceptrons.drawn((4, 3), [0]).descend(data, **how)
    first, second, *again = (torch.cat(seen[i : i + 3]) for i in range(0, 12, 3))
    assert not torch.equal(first, second)
    assert torch.equal(torch.cat(again), torch.cat([first, second]))
    for epoch in (first, second):
        assert sorted(epoch.tolist()) == sorted(data.x[0].tolist())


def test_epochs_and_measures_are_those_of_networks_trained_one_by_one():
    start, keep = _Perceptrons.drawn((4, 6, 3), range(5)), np.random.default_rng(1).random((5, 42)) < 0.8
    train, test, before = iris(0, 90), iris(1, 60), start.flat()
    keep[4] = False  # nothing but biases is left: it will not learn
    how = {"benchmark": 0.8, "budget": 12, "cap": 25, "learning_rate": 1.0}
    table, networks = start.retrained(keep, train, test, **how)
    for run in range(5):
        alone, found, epoch, reached = start.pick([run]), table.loc[run], -1, False
        while not reached and epoch < 24:
            alone.descend(train, learning_rate=1.0, n_epochs=1, keep=keep[[run]])
            epoch, reached = epoch + 1, alone.accuracy(train)[0] >= 0.8
        # the first epoch that ends at the benchmark, counted from 0; the cap if none does
        assert (found["epochs"], found["reached"]) == (epoch if reached else 25, reached)
        assert found["test_accuracy"] == pytest.approx(alone.accuracy(test)[0])
        assert found["macro_f1"] == pytest.approx(alone.macro_f1(test)[0])
        longer = start.pick([run])
        longer.descend(train, learning_rate=1.0, n_epochs=12, keep=keep[[run]])
        assert found["budget_accuracy"] == pytest.approx(longer.accuracy(test)[0])
        torch.testing.assert_close(networks.flat()[run], alone.flat()[0], rtol=0, atol=1e-12)
    assert table["epochs"].nunique() > 2
    assert table["reached"].tolist() == [True] * 4 + [False]
    assert table["kept"].tolist() == keep.sum(1).tolist()
    assert torch.equal(start.flat(), before)
