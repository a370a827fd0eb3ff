"""What is asked of many series, checked at the border, and the series in float64, a chunk at a time."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Prepared",
    "Rows",
    "checked_lags",
    "checked_whole",
    "paired_rows",
    "real_numbers",
    "series_in_rows",
]


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


def real_numbers(values: ArrayLike | torch.Tensor, name: str) -> NDArray[Any] | torch.Tensor:
    """An array or a tensor of real numbers that float64 holds; what a masked array masks is NaN.

    Raises:
        TypeError: other values, and tensors that are more than their values, such as sparse ones.
        ValueError: integers that float64 does not tell apart.
    """
    accepted = f"{name} must hold real numbers (floating point up to float64, or integers below 2**53)"
    found: Any
    if isinstance(values, torch.Tensor):
        found = values.detach()
        plain = type(found) is torch.Tensor and found.layout == torch.strided and not found.is_nested
        if not plain or found.is_meta:
            kind = f"{'nested ' * found.is_nested}{type(found).__name__}, {found.layout}, on {found.device}"
            raise TypeError(f"{accepted} in a dense tensor, got a {kind}")
        real = found.dtype != torch.bool and not found.is_complex() and not found.is_quantized
        whole = found.dtype in (torch.int64, torch.uint64)
    else:
        found = np.ma.asarray(values)  # a list of masked arrays keeps its masks
        real = found.dtype.kind in "fiu" and found.dtype.itemsize <= 8
        whole = found.dtype.kind in "iu" and found.dtype.itemsize == 8
    if not real:
        raise TypeError(f"{accepted}, got {found.dtype}")
    if isinstance(values, torch.Tensor):
        found = found.resolve_neg()
    else:
        found = found.astype(float).filled(np.nan) if np.ma.is_masked(found) else np.asarray(found.data)
    if whole:
        floats = found.double() if isinstance(values, torch.Tensor) else found.astype(float)
        if len(large := floats[abs(floats) >= 2**53]):
            raise ValueError(f"{accepted}, got about {large[0]:.0f}")
    return found


def series_in_rows(series: ArrayLike | torch.Tensor, name: str) -> NDArray[Any] | torch.Tensor:
    """The same for ``(N, T)`` or ``(T,)``; refuses tables, of which nobody knows whether time runs down or across."""
    if hasattr(series, "iloc") or hasattr(series, "coords") or hasattr(series, "columns"):
        raise TypeError(
            f"{name} must be an array, each row a series; got a {type(series).__name__}, whose labels would not be "
            "read: pass its numbers, .to_numpy(), turned if time runs down"
        )
    values = real_numbers(series, name)
    if values.ndim not in (1, 2):
        raise ValueError(f"{name} must have the shape (N, T) or (T,), got {tuple(values.shape)}")
    return values


class Rows:
    """Series in rows, as an array or a tensor; any part of them as float64 on the device of the test."""

    def __init__(self, series: ArrayLike | torch.Tensor, name: str) -> None:
        values = series_in_rows(series, name)
        self.shape = tuple(values.shape)
        self.values = values if values.ndim == 2 else values[None]
        self.device = values.device if isinstance(values, torch.Tensor) else None

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def part(self, start: int, stop: int, device: torch.device) -> torch.Tensor:
        """Some rows as float64, row by row in memory; not to be written to."""
        if isinstance(self.values, torch.Tensor):
            return self.values[start:stop].to(device, torch.float64).contiguous()
        rows = np.require(self.values[start:stop], np.float64, ["C", "W"])
        return torch.from_numpy(rows).to(device)


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
    """Some rows, differenced and without their offset, with what the labels need to know of them."""

    def __init__(
        self, rows: Rows, start: int, stop: int, difference: int, largest: int, device: torch.device
    ) -> None:
        """``largest`` is the largest lag that will be asked for, T at least 3 largest + 2."""
        raw = rows.part(start, stop, device)
        n_times = max(raw.shape[1] - difference, 0)
        if difference:
            raw = raw.diff(n=difference)
        # An offset comes off before anything is summed: exactly so where it is the larger part. The middle value
        # stands for it, because first values are often far from the rest.
        self.values = raw - raw[:, n_times // 2 : n_times // 2 + 1] if n_times else raw
        # Two passes: aminmax over rows is slower than both.
        size = (
            torch.maximum(self.values.amax(1), -self.values.amin(1)) if n_times else raw.new_zeros(len(raw))
        )
        self.finite = size.isfinite()
        if not self.finite.all():
            self.values[~self.finite] = 0.0
        # Squares must neither overflow nor vanish.
        extreme = ((size < 1e-100) | (size > 1e100)) & (size > 0) & self.finite
        if extreme.any():
            self.values[extreme] /= size[extreme, None]

        level = raw[:, largest] == raw[:, largest + 1] if n_times > largest + 1 else torch.zeros_like(extreme)
        suspects = level.nonzero()[:, 0]
        core = raw[suspects, largest : n_times - largest]
        self._level = suspects[(core == core[:, :1]).all(1)]
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
