"""Members of an ensemble that are still being trained: step sizes, last losses, when they are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rule", "Running"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

_SMALLEST_FACTOR = 1e-12
_PROGRESS = 1e-2


@dataclass(frozen=True)
class Rule:
    """How the step factor changes and when a member gives up; arguments of ``descend``."""

    k0: float
    k_max: float
    grow: float
    shrink: float
    window: int
    patience: int | None

    def __post_init__(self) -> None:
        if not (self.k0 > 0 and self.k_max > 0):
            raise ValueError(f"k0 and k_max must be positive, got {self.k0} and {self.k_max}")
        if not (self.grow >= 1 and self.shrink > 1):
            raise ValueError(
                f"grow must be at least 1 and shrink larger than 1, got {self.grow} and {self.shrink}"
            )
        if self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1 or None, got {self.patience}")


@dataclass(frozen=True, eq=False)
class Running:
    """One entry a running member in every array.

    Attributes:
        ids: the members' numbers in the ensemble.
        k: step factors.
        log_loss: of the parameters that are kept.
        recent: the last kept log-losses, ``(members, window)``.
        best, best_step: largest z so far that counts as progress, and when.
        n_accepted: kept steps.
        passed: how many targets are behind.
    """

    ids: Integers
    k: Array
    log_loss: Array
    recent: Array
    best: Array
    best_step: Integers
    n_accepted: Integers
    passed: Integers

    @classmethod
    def at_start(cls, log_loss: Array, rule: Rule) -> Running:
        size = len(log_loss)
        recent = np.full((size, rule.window), -np.inf)
        recent[:, -1] = log_loss
        zeros = np.zeros(size, dtype=np.int64)
        return cls(
            np.arange(size), np.full(size, rule.k0), log_loss, recent, -log_loss, zeros, zeros, zeros.copy()
        )

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, stay: Flags) -> Running:
        return Running(*(getattr(self, field.name)[stay] for field in fields(self)))

    def after(self, value: Array, step: int, rule: Rule) -> tuple[Running, Flags]:
        """The members after a proposal with these log-losses, and which of them keep it."""
        accepted = np.isfinite(value) & (value <= self.recent.max(axis=1))
        log_loss = np.where(accepted, value, self.log_loss)
        k = np.where(
            accepted, np.where(self.k < rule.k_max, self.k * rule.grow, self.k), self.k / rule.shrink
        )
        recent = self.recent
        if rule.window == 1:
            recent = log_loss[:, None]
        elif accepted.any():
            shifted = np.concatenate([recent[:, 1:], value[:, None]], axis=1)
            recent = np.where(accepted[:, None], shifted, recent)
        better = -log_loss > self.best + _PROGRESS
        return (
            Running(
                self.ids,
                k,
                log_loss,
                recent,
                np.where(better, -log_loss, self.best),
                np.where(better, step, self.best_step),
                self.n_accepted + accepted,
                self.passed,
            ),
            accepted,
        )

    def crossing(self, targets: Sequence[float]) -> tuple[Running, list[tuple[int, int]]]:
        """The members with their targets counted anew, and the (position, target number) just passed."""
        passed = np.searchsorted(np.asarray(targets), -self.log_loss, side="left")
        new = np.maximum(passed, self.passed)
        if (new == self.passed).all():
            return self, []
        pairs = [(i, j) for i in np.flatnonzero(new > self.passed) for j in range(self.passed[i], new[i])]
        return replace(self, passed=new), [(int(i), int(j)) for i, j in pairs]

    def endings(self, step: int, n_targets: int, rule: Rule, zero_gradient: Flags | None) -> list[str] | None:
        """Why each member stops now, empty for those that go on; None if all go on."""
        reached = self.passed >= n_targets
        stalled = self.k < _SMALLEST_FACTOR
        flat = np.zeros_like(reached) if zero_gradient is None else zero_gradient
        stuck = np.zeros_like(reached) if rule.patience is None else step - self.best_step >= rule.patience
        if not (reached.any() or stalled.any() or flat.any() or stuck.any()):
            return None
        names = np.select([reached, flat, stalled, stuck], ["reached", "flat", "stalled", "stuck"], "")
        return [str(name) for name in names]
