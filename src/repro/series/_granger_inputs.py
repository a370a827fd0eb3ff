"""Checks of what a Granger test is asked, and its series made ready, a chunk at a time."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

__all__ = ["Prepared", "Rows", "checked_lags", "checked_whole", "paired_rows"]


def checked_whole(value: Any, name: str, least: int) -> int:
    """A whole number of at least ``least``; True and 2.0 are none."""
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def checked_lags(lag: int | Sequence[int]) -> tuple[int, ...]:
    """The lags in the order asked for: at least one, each at least 1, none twice."""
    if isinstance(lag, str | bytes) or not hasattr(lag, "__iter__") or np.ndim(lag) == 0:
        return (checked_whole(lag, "lag", 1),)
    lags = tuple(checked_whole(each, "each lag", 1) for each in lag)
    if not lags:
        raise ValueError("lag must be a whole number or a sequence of at least one, got an empty sequence")
    if len(set(lags)) < len(lags):
        twice = next(each for each in lags if lags.count(each) > 1)
        raise ValueError(f"lag must name each lag once, got {twice} twice in {lags}")
    return lags


class Rows:
    """Series in rows, as an array or a tensor; any part of them as float64 on the device of the test."""

    def __init__(self, series: ArrayLike | torch.Tensor, name: str) -> None:
        values = series.detach() if isinstance(series, torch.Tensor) else np.asarray(series)
        if isinstance(values, torch.Tensor):
            real = values.dtype != torch.bool and not values.dtype.is_complex
        else:
            real = values.dtype.kind in "fiu"
        if not real:
            raise TypeError(
                f"{name} must hold real numbers (floating point, or integers below 2**53), got {values.dtype}"
            )
        if values.ndim not in (1, 2):
            raise ValueError(f"{name} must have the shape (N, T) or (T,), got {tuple(values.shape)}")
        self.shape = tuple(values.shape)
        self.values = values if values.ndim == 2 else values[None]
        self.device = values.device if isinstance(values, torch.Tensor) else None

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def part(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """A fresh float64 copy of some rows."""
        if isinstance(self.values, torch.Tensor):
            return self.values[start:stop].to(device, torch.float64, copy=True).contiguous()
        return torch.from_numpy(np.array(self.values[start:stop], dtype=np.float64, order="C")).to(device)


def paired_rows(
    effect: ArrayLike | torch.Tensor, cause: ArrayLike | torch.Tensor
) -> tuple[Rows, Rows, torch.device]:
    """The two sides of the test, and the device of whichever is a tensor."""
    effects, causes = Rows(effect, "effect"), Rows(cause, "cause")
    shared = len(effects.shape) == 1
    if effects.shape[-1] != causes.shape[-1] or not (shared or len(effects) == len(causes)):
        raise ValueError(
            "effect must have the shape (T,) or that of cause, (N, T): "
            f"got effect {effects.shape} and cause {causes.shape}"
        )
    devices = {rows.device for rows in (effects, causes) if rows.device is not None}
    if len(devices) > 1:
        raise ValueError(
            f"effect and cause must be on the same device, got {effects.device} and {causes.device}"
        )
    return effects, causes, devices.pop() if devices else torch.device("cpu")


class Prepared:
    """Some rows, differenced, centred and scaled, with what the labels need to know of them."""

    def __init__(
        self, rows: Rows, start: int, stop: int, difference: int, largest: int, device: torch.device
    ) -> None:
        """``largest`` is the largest lag that will be asked for, T at least 3 largest + 2."""
        raw = rows.part(start, stop, device)
        if difference:
            raw = raw.diff(n=difference)
        # The first value comes off before anything is summed: exactly so where the offset is the larger part.
        moved = raw - raw[:, :1]
        size = moved.abs().amax(1, keepdim=True) if raw.shape[1] else raw.new_zeros(len(raw), 1)
        self.finite = size[:, 0].isfinite()
        moved /= size.masked_fill(size == 0, 1.0)
        moved -= moved.mean(1, keepdim=True)
        self.values = moved if self.finite.all() else moved.masked_fill_(~self.finite[:, None], 0.0)
        core = raw[:, largest : raw.shape[1] - largest]
        level = core.amax(1) == core.amin(1) if core.shape[1] else torch.zeros_like(self.finite)
        self._level = level.nonzero()[:, 0]
        self._level_rows = raw[self._level]

    def constant(self, n_obs: int, n_columns: int) -> np.ndarray:
        """Where one of the first ``n_columns`` windows of ``n_obs`` points is constant, ``(N,)``.

        Each window of each lag contains the core of its series, so that few rows need a look.
        """
        found = np.zeros(len(self.finite), dtype=bool)
        if len(self._level):
            windows = self._level_rows[:, : n_obs + n_columns - 1].unfold(1, n_obs, 1)
            constant = (windows.amax(2) == windows.amin(2)).any(1)
            found[self._level[constant].cpu().numpy()] = True
        return found
