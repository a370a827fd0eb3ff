"""Retraining under masks: epochs, the cap, and the networks at the benchmark, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

from repro.papers.chaos_causality_pruning.descent import accuracy, descend, examples, loss, macro_f1
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons, gaussian
from repro.papers.chaos_causality_pruning.retraining import retrain

X, Y = load_wine(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
ORDER = np.random.default_rng(0).permutation(len(Y))
TRAIN, TEST = (examples(X[part], Y[part], 3) for part in (ORDER[:90], ORDER[90:]))
SIZES = (13, 6, 3)
HOW = {"learning_rate": 0.3, "benchmark": 0.9, "cap": 25}


def masks(n: int, share: float = 0.7) -> np.ndarray:
    return np.random.default_rng(1).random((n, 96)) < share


def test_epochs_and_measures_are_those_of_networks_trained_one_by_one():
    start, keep = gaussian(SIZES, range(5)), masks(5)
    result = retrain(start, keep, TRAIN, TEST, **HOW)
    for run in range(5):
        alone = start.pick([run])
        curve: list[float] = []

        def stop(epoch: int, networks: Perceptrons, curve: list[float] = curve) -> bool:
            curve.append(accuracy(networks, TRAIN)[0])
            return curve[-1] >= 0.9

        descend(
            alone, TRAIN, learning_rate=0.3, n_epochs=25, keep=torch.tensor(keep[[run]]), after_epoch=stop
        )
        # the first epoch that ends at the benchmark, counted from 0
        assert result.epochs[run] == len(curve) - 1
        assert result.reached[run]
        np.testing.assert_allclose(result.training_accuracy[run, : len(curve)], curve, atol=1e-12)
        assert result.test_accuracy[run] == pytest.approx(accuracy(alone, TEST)[0])
        assert result.macro_f1[run] == pytest.approx(macro_f1(alone, TEST)[0])
        assert result.test_loss[run] == pytest.approx(loss(alone, TEST)[0], rel=1e-9)
        torch.testing.assert_close(result.networks.flat()[run], alone.flat()[0], rtol=0, atol=1e-12)
    assert len(set(result.epochs)) > 1
    assert result.kept.tolist() == keep.sum(1).tolist()


def test_an_empty_set_of_pruned_weights_is_the_dense_network_bit_by_bit():
    start = gaussian(SIZES, [0])
    keep = np.concatenate([np.ones((2, 96), bool), masks(1, 0.5)])
    result = retrain(start.pick([0, 0, 0]), keep, TRAIN, TEST, **HOW)
    assert result.epochs[0] == result.epochs[1]
    assert torch.equal(result.networks.flat()[0], result.networks.flat()[1])
    dense = start.pick([0])
    descend(dense, TRAIN, learning_rate=0.3, n_epochs=int(result.epochs[0]) + 1)
    torch.testing.assert_close(result.networks.flat()[0], dense.flat()[0], rtol=0, atol=1e-12)
    assert not torch.equal(result.networks.flat()[2], result.networks.flat()[0])


def test_pruned_weights_stay_zero_and_the_start_is_left_alone():
    start, keep = gaussian(SIZES, range(3)), masks(3)
    before = start.flat()
    result = retrain(start, keep, TRAIN, TEST, **HOW)
    assert bool((result.networks.flat()[torch.tensor(~keep)] == 0).all())
    assert bool((result.networks.flat()[torch.tensor(keep)] != 0).all())
    assert torch.equal(start.flat(), before)


def test_networks_that_never_reach_the_benchmark_have_the_cap():
    keep = np.ones((2, 96), bool)
    keep[1] = False  # nothing but biases is left
    result = retrain(gaussian(SIZES, [0, 1]), keep, TRAIN, TEST, **HOW)
    assert result.reached.tolist() == [True, False]
    assert result.epochs[0] < 25
    assert result.epochs[1] == 25
    assert result.training_accuracy.shape == (2, 25)
    assert result.kept.tolist() == [96, 0]
    alone = gaussian(SIZES, [1])
    descend(alone, TRAIN, learning_rate=0.3, n_epochs=25, keep=torch.zeros(1, 96, dtype=torch.bool))
    assert result.test_accuracy[1] == accuracy(alone, TEST)[0]
    torch.testing.assert_close(result.networks.biases[1][1], alone.biases[1][0], rtol=0, atol=1e-12)


def test_a_benchmark_met_at_once_is_met_in_epoch_zero():
    result = retrain(
        gaussian(SIZES, [0, 1]),
        np.ones((2, 96), bool),
        TRAIN,
        TEST,
        learning_rate=3.0,
        benchmark=0.01,
        cap=5,
    )
    assert result.epochs.tolist() == [0, 0]
    assert result.training_accuracy.shape == (2, 1)


def test_networks_that_stopped_go_on_in_the_curve_but_not_in_the_result():
    result = retrain(gaussian(SIZES, range(4)), masks(4), TRAIN, TEST, **HOW)
    assert result.training_accuracy.shape == (4, int(result.epochs.max()) + 1)
    np.testing.assert_allclose(
        accuracy(result.networks, TRAIN), result.training_accuracy[range(4), result.epochs.astype(int)]
    )


@pytest.mark.parametrize("level", [0, -0.1, 1.01])
def test_a_benchmark_outside_its_range_is_refused(level):
    with pytest.raises(ValueError, match=f"got {level}"):
        retrain(gaussian(SIZES, [0]), masks(1), TRAIN, TEST, learning_rate=0.3, benchmark=level, cap=2)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 96\); got \(1, 96\)"):
        retrain(gaussian(SIZES, [0, 1]), masks(1), TRAIN, TEST, **HOW)
