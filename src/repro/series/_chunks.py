"""A function over chunks of rows, on as many threads as PyTorch may use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["over_chunks"]


def over_chunks(
    make_worker: Callable[[], Callable[[int, int], None]], n_rows: int, rows_a_chunk: int
) -> None:
    """Call ``worker(start, stop)`` for each chunk; each thread makes a worker of its own.

    A chunk stays on one thread and its size does not depend on their number, so neither do the results. While
    the chunks run, PyTorch splits no operation over threads; its setting is put back at the end.
    """
    starts = range(0, n_rows, rows_a_chunk)
    todo = iter(starts)

    def run() -> None:
        torch.set_num_threads(1)
        worker = make_worker()
        for start in todo:
            worker(start, min(start + rows_a_chunk, n_rows))

    n_threads = torch.get_num_threads()
    n_workers = min(n_threads, len(starts))
    try:
        if n_workers == 1:
            run()
        elif n_workers:
            with ThreadPoolExecutor(n_workers) as pool:
                for future in [pool.submit(run) for _ in range(n_workers)]:
                    future.result()
    finally:
        torch.set_num_threads(n_threads)
