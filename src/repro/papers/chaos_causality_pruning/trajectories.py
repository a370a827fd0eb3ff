"""The whole path of one weight of one network, with its exponents and the network's errors, to look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.descent import descend
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons
from repro.papers.chaos_causality_pruning.settings import Setting
from repro.papers.chaos_causality_pruning.windows import WindowRecorder

__all__ = ["Path", "follow", "stretches"]


@dataclass(frozen=True)
class Path:
    """A weight through training.

    Attributes:
        weight: its value after k updates, ``(K + 1,)``.
        window_ends: update at which each window ends, ``(T,)``.
        exponents: of the windows, nats an update, ``(T,)``.
        errors: share of wrong answers on the validation part at the end of each window, ``(T,)``.
        window: rows in a window.
    """

    weight: NDArray[np.float64]
    window_ends: NDArray[np.int64]
    exponents: NDArray[np.float64]
    errors: NDArray[np.float64]
    window: int


def follow(setting: Setting, seed: int, weight: int, *, epochs: int | None = None) -> Path:
    """Train one network and keep one weight at every update, with its FT windows.

    Args:
        setting: network and training, with FT windows.
        seed: of split and initial weights.
        weight: index in the flat order.
        epochs: passes, None for the setting's.

    Raises:
        ValueError: no such weight, or a setting without FT windows.
    """
    parts = setting.load([seed])
    network = setting.initial(parts, [seed])
    if setting.full is None:
        raise ValueError(f"{setting.name} has no FT windows; choose one of the tables")
    if not 0 <= weight < len(network.layer_of):
        raise ValueError(f"weight must lie between 0 and {len(network.layer_of) - 1}; got {weight}")
    rows: list[float] = []

    def keep(_: int, current: Perceptrons) -> None:
        rows.append(float(current.flat()[0, weight]))

    recorder = WindowRecorder(
        setting.full, {"validation": parts.validation}, weights=slice(weight, weight + 1)
    )
    descend(
        network,
        parts.train,
        learning_rate=setting.learning_rate,
        n_epochs=epochs or setting.epochs,
        order=setting.order,
        after_update=[keep, recorder],
    )
    seen = recorder.result()
    n_windows = seen.exponents.shape[-1]
    ends = np.arange(n_windows) * setting.full.stride + setting.full.length - 1
    return Path(np.array(rows), ends, seen.exponents[0, 0], seen.errors["validation"][0], setting.full.length)


def stretches(setting: Setting, seed: int, *, length: int, count: int) -> NDArray[np.float64]:
    """Cut stretches of weights out of the first updates of one network, ``(count, length)``.

    The network's weights follow one another, each in a stretch of its own, again and again.
    """
    parts = setting.load([seed])
    network = setting.initial(parts, [seed])
    n_weights = len(network.layer_of)
    n_rows = length * -(-count // n_weights)
    rows: list[NDArray[np.float64]] = []
    descend(
        network,
        parts.train,
        learning_rate=setting.learning_rate,
        n_epochs=-(-n_rows // len(parts.train)),
        order=setting.order,
        after_update=[lambda _, current: rows.append(current.flat()[0].numpy())],
    )
    log = np.array(rows[:n_rows]).reshape(-1, length, n_weights)
    return np.ascontiguousarray(log.transpose(0, 2, 1).reshape(-1, length)[:count])
