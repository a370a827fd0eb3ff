"""Series as they are given, checked at the border, and their rows a chunk at a time, on several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def real_numbers(values: ArrayLike | torch.Tensor, name: str) -> NDArray[Any]:
    """An array of real numbers that float64 holds; what a masked array masks is NaN.

    Raises:
        TypeError: other values, and tensors that are more than their values, such as sparse ones.
        ValueError: integers that float64 does not tell apart.
    """
    accepted = f"{name} must hold real numbers (floating point up to float64, or integers below 2**53)"
    if isinstance(values, torch.Tensor):
        values = _of_tensor(values.detach(), accepted)
    found: Any = np.ma.asarray(values)  # a list of masked arrays keeps its masks
    if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
        raise TypeError(f"{accepted}, got {found.dtype}")
    if found.dtype.kind in "iu" and found.dtype.itemsize == 8:
        floats = found.compressed().astype(np.float64)
        if len(large := floats[abs(floats) >= 2**53]):
            raise ValueError(f"{accepted}, got about {large[0]:.0f}")
    return found.astype(np.float64).filled(np.nan) if np.ma.is_masked(found) else np.asarray(found.data)


def _of_tensor(tensor: torch.Tensor, accepted: str) -> NDArray[Any]:
    if type(tensor) is not torch.Tensor or tensor.layout != torch.strided or tensor.is_nested:
        raise TypeError(f"{accepted} in a dense tensor, got a {type(tensor).__name__} of {tensor.layout}")
    if tensor.dtype.is_floating_point and tensor.dtype.itemsize < 4:
        tensor = tensor.float()  # NumPy has no bfloat16
    return tensor.cpu().resolve_conj().resolve_neg().numpy()


def series_rows(series: ArrayLike | torch.Tensor, name: str) -> NDArray[Any]:
    """The same for ``(N, T)`` or ``(T,)``; refuses tables, of which nobody knows whether time runs down or across."""
    if hasattr(series, "iloc") or hasattr(series, "coords") or hasattr(series, "columns"):
        labels = f"got a {type(series).__name__}, whose labels would not be read"
        way = "pass its numbers, .to_numpy(), turned if time runs down"
        raise TypeError(f"{name} must be an array, each row a series; {labels}: {way}")
    values = real_numbers(series, name)
    if values.ndim not in (1, 2):
        raise ValueError(f"{name} must have the shape (N, T) or (T,), got {values.shape}")
    return values


def compiled(loops: Callable[..., None], *parts: Callable[..., Any]) -> Callable[..., None]:
    """Loops over arrays as machine code, kept in a file where numba finds a folder that can be written.

    Arithmetic stays in the order in which it is written: no fused multiplications, no reordering.

    Args:
        loops: writes its results into arrays that it is given.
        parts: functions that it calls.
    """
    from numba import njit  # not before it is needed: it takes a while to import
    from numba.extending import register_jitable

    for part in parts:
        register_jitable(part)
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(loops)
    except RuntimeError:  # "cannot cache function"
        return njit(nogil=True, error_model="numpy")(loops)


def copy(values: Array, into: Array) -> None:
    """For compiled loops, in which a loop is faster than the assignment to a slice."""
    for i in range(len(into)):
        into[i] = values[i]


def over_chunks(make_worker: Callable[[], Callable[[int, int], None]], n_rows: int, size: int) -> None:
    """Call ``worker(start, stop)`` for each chunk, on as many threads as PyTorch may use, each with its own worker.

    A chunk stays on one thread and its size, in rows, does not depend on their number, so neither do the results. While
    the chunks run, PyTorch splits no operation over threads; its setting is put back at the end.
    """
    starts = range(0, n_rows, size)
    todo = iter(starts)

    def run() -> None:
        torch.set_num_threads(1)
        worker = make_worker()
        for start in todo:
            worker(start, min(start + size, n_rows))

    n_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(max(1, min(n_threads, len(starts)))) as pool:
            for future in [pool.submit(run) for _ in range(min(n_threads, len(starts)))]:
                future.result()
    finally:
        torch.set_num_threads(n_threads)
