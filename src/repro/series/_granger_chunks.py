"""A function over chunks of rows, on as many threads as PyTorch may use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["over_chunks"]


def over_chunks(work: Callable[[int, int], None], n_rows: int, rows_a_chunk: int) -> None:
    """Call ``work(start, stop)`` for each chunk.

    A chunk stays on one thread and its size does not depend on their number, so neither do the results. While
    the chunks run, PyTorch splits no operation over threads; its setting is put back at the end.
    """
    starts = range(0, n_rows, rows_a_chunk)
    stops = [min(start + rows_a_chunk, n_rows) for start in starts]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if min(n_threads, len(starts)) < 2:
            for bounds in zip(starts, stops, strict=True):
                work(*bounds)
        else:
            n_workers = min(n_threads, len(starts))
            with ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                list(pool.map(work, starts, stops))
    finally:
        torch.set_num_threads(n_threads)
