"""Windows over a training run: each weight's exponents and the error at each window's end, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.descent import Examples, accuracy
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons
from repro.series.lyapunov import lyapunov_tisean

__all__ = ["Exponents", "WindowRecorder", "Windows", "largest_lag", "paper_exponents"]


@dataclass(frozen=True)
class Windows:
    r"""Windows of length N over the log of weights, whose row k holds the weights after k updates.

    Window $t$ covers rows $ht,\dots,ht+N-1$ with the stride $h=(1-\text{overlap})N$.

    Attributes:
        length: N, rows in a window, at least 10.
        overlap: share of a window that the next one covers again, in [0, 1); the paper has 0.1.
    """

    length: int
    overlap: float = 0.1

    def __post_init__(self) -> None:
        if self.length < 10:
            raise ValueError(f"length must be at least 10 rows for an exponent; got {self.length}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must lie in [0, 1); got {self.overlap}")

    @property
    def stride(self) -> int:
        """h, rows from one window's start to the next."""
        return round(self.length * (1 - self.overlap))

    def count(self, n_rows: int) -> int:
        """Return T, the number of complete windows in ``n_rows`` rows."""
        return max(0, (n_rows - self.length) // self.stride + 1)


def largest_lag(n_windows: int, wanted: int) -> int:
    """Return the largest lag up to ``wanted`` that T windows allow, $T\\ge3L+2$; 0 if there is none."""
    return max(0, min(wanted, (n_windows - 2) // 3))


def paper_exponents(windows: NDArray[np.float64], forward_steps: int = 3) -> NDArray[np.float64]:
    r"""Return the paper's exponent $S(1)-S(0)$ of each window, nats an update.

    TISEAN's ``lyap_r`` in dimension 2 on the window rescaled to [0, 1]; 0 for a window that moves by less
    than $10^{-5}$; NaN where no point has a neighbour.

    Args:
        windows: ``(n, N)``.
        forward_steps: s; the last s points serve neither as reference nor as neighbour.

    Source: the paper's section 3.6; the details are in its authors' code.
    """
    return lyapunov_tisean(windows, forward_steps=forward_steps).exponent


@dataclass(frozen=True)
class Exponents:
    """What a recorder has seen of R networks with P weights in T windows.

    Attributes:
        windows: the windows.
        exponents: ``(R, P, T)``, nats an update.
        errors: part of the data to the share of wrong answers at each window's last update, ``(R, T)``.
    """

    windows: Windows
    exponents: NDArray[np.float64]
    errors: Mapping[str, NDArray[np.float64]]


class WindowRecorder:
    """Follows a training run and keeps one exponent a weight and window instead of the whole log.

    Pass it to ``descend(..., after_update=[recorder])``. It holds N rows of weights at a time.
    """

    def __init__(
        self,
        windows: Windows,
        parts: Mapping[str, Examples],
        *,
        networks: NDArray[np.int64] | slice = slice(None),
        weights: slice = slice(None),
        last_update: int | None = None,
        exponent: Callable[[NDArray[np.float64]], NDArray[np.float64]] = paper_exponents,
    ) -> None:
        """Set up.

        Args:
            windows: length and overlap.
            parts: examples on which the error is measured at the end of each window.
            networks: which networks to follow.
            weights: which of their weights, in the flat order.
            last_update: stop looking after this many updates (LEGCNet-PT); None for never.
            exponent: from windows ``(n, N)`` to exponents ``(n,)``.
        """
        self.windows = windows
        self._parts = dict(parts)
        self._networks = networks
        self._weights = weights
        self._last = last_update
        self._exponent = exponent
        self._rows: NDArray[np.float64] | None = None
        self._filled = 0
        self._exponents: list[NDArray[np.float64]] = []
        self._errors: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self._parts}

    def __call__(self, update: int, networks: Perceptrons) -> None:
        """Take in the weights after ``update`` updates."""
        if self._last is not None and update > self._last:
            return
        row = networks.flat().numpy()[self._networks][:, self._weights]
        if self._rows is None:
            self._rows = np.empty((self.windows.length, *row.shape))
        self._rows[self._filled] = row
        self._filled += 1
        if self._filled < self.windows.length:
            return
        n_runs, n_weights = row.shape
        series = self._rows.reshape(self.windows.length, -1).T
        self._exponents.append(self._exponent(np.ascontiguousarray(series)).reshape(n_runs, n_weights))
        for name, part in self._parts.items():
            self._errors[name].append(1 - accuracy(networks, part)[self._networks])
        stride = self.windows.stride
        self._rows[: self.windows.length - stride] = self._rows[stride:].copy()
        self._filled = self.windows.length - stride

    def result(self) -> Exponents:
        """Return what was seen.

        Raises:
            ValueError: the run was shorter than one window.
        """
        if not self._exponents:
            raise ValueError(f"the run has fewer rows than one window of {self.windows.length}; train longer")
        return Exponents(
            self.windows,
            np.stack(self._exponents, axis=-1),
            {name: np.stack(errors, axis=-1) for name, errors in self._errors.items()},
        )
