"""Retraining from the same initial weights under a mask, until the training accuracy reaches a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.descent import Examples, accuracy, descend, loss, macro_f1
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons

__all__ = ["Retrained", "retrain"]


@dataclass(frozen=True)
class Retrained:
    """How R masked networks learned.

    Attributes:
        epochs: first epoch, counted from 0 as the paper does, after which the training accuracy is at least the
            benchmark, ``(R,)``; the cap for networks that never reach it.
        reached: whether it was reached, ``(R,)``.
        test_accuracy, macro_f1, test_loss: on the test examples after that epoch, ``(R,)``.
        training_accuracy: by epoch, ``(R, E)``; for networks that stopped, as if they had gone on.
        kept: weights left by the mask, ``(R,)``: the paper's "FLOPs", and the multiply-adds of one example.
        networks: as they were after that epoch.
    """

    epochs: NDArray[np.float64]
    reached: NDArray[np.bool_]
    test_accuracy: NDArray[np.float64]
    macro_f1: NDArray[np.float64]
    test_loss: NDArray[np.float64]
    training_accuracy: NDArray[np.float64]
    kept: NDArray[np.int64]
    networks: Perceptrons


def retrain(
    initial: Perceptrons,
    keep: NDArray[np.bool_],
    train: Examples,
    test: Examples,
    *,
    learning_rate: float,
    benchmark: float,
    cap: int,
    batch_size: int = 1,
    order: str = "fixed",
    seed: int = 0,
) -> Retrained:
    """Train masked networks from ``initial``, which is left alone, and note when each reaches the benchmark.

    Args:
        initial: R networks.
        keep: mask ``(R, P)`` in the flat order; weights that are False are zero after every update.
        train, test: examples.
        learning_rate: constant.
        benchmark: training accuracy to reach, in (0, 1].
        cap: most epochs.
        batch_size, order, seed: as for ``descend``.

    Raises:
        ValueError: bad arguments, before any work.
    """
    if not 0 < benchmark <= 1:
        raise ValueError(f"benchmark is a training accuracy in (0, 1]; got {benchmark}")
    n_runs = len(initial)
    networks = initial.pick(range(n_runs))
    mask = torch.as_tensor(np.asarray(keep, dtype=bool))
    epochs = np.full(n_runs, float(cap))
    reached = np.zeros(n_runs, bool)
    at_stop = np.full((3, n_runs), np.nan)
    stopped = initial.pick(range(n_runs))
    curve: list[NDArray[np.float64]] = []

    def measured(trained: Perceptrons) -> NDArray[np.float64]:
        return np.stack([metric(trained, test) for metric in (accuracy, macro_f1, loss)])

    def note(epoch: int, trained: Perceptrons) -> bool:
        curve.append(accuracy(trained, train))
        now = (curve[-1] >= benchmark) & ~reached
        last = epoch == cap - 1
        if now.any() or last:
            stops = now | (last & ~reached)
            at_stop[:, stops] = measured(trained)[:, stops]
            for kept, current in zip(stopped.tensors, trained.tensors, strict=True):
                kept[stops] = current[stops]
            epochs[now] = epoch
            reached[now] = True
        return bool(reached.all())

    descend(
        networks,
        train,
        learning_rate=learning_rate,
        n_epochs=cap,
        batch_size=batch_size,
        order=order,
        seed=seed,
        keep=mask,
        after_epoch=note,
    )
    test_accuracy, f1, test_loss = at_stop
    return Retrained(
        epochs, reached, test_accuracy, f1, test_loss, np.stack(curve, axis=1), keep.sum(axis=1), stopped
    )
