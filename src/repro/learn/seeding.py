"""Independent random streams from one seed, and settings under which two runs are bitwise equal.

A training run draws random numbers for four purposes. Were they drawn from one generator, a change in one
purpose (another batch size, say) would silently change the others (the initial weights). NumPy's
``SeedSequence`` turns one seed into generators that have nothing to do with each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from repro.base import whole


@dataclass(frozen=True)
class Streams:
    """Four independent generators: for splitting data, initial weights, the order of batches, augmentation.

    The generators are on the CPU whatever the device of the training, so that a seed means the same
    everywhere. They advance as they are used: call ``streams(seed)`` again for fresh ones.
    """

    data: torch.Generator
    initialization: torch.Generator
    shuffle: torch.Generator
    augmentation: torch.Generator


def streams(seed: int) -> Streams:
    """Make the four generators of a run from its one seed.

    Args:
        seed: whole number, 0 or above.

    Returns:
        ``Streams`` with fresh CPU generators; the same seed always gives the same four sequences.

    Raises:
        ValueError: the seed is not a whole number or negative.
    """
    children = np.random.SeedSequence(whole("seed", seed, 0)).spawn(4)
    # PyTorch's CPU generator looks at the low 32 bits of its seed only.
    words = [int(child.generate_state(1, dtype=np.uint32)[0]) for child in children]
    return Streams(*(torch.Generator().manual_seed(word) for word in words))


@contextmanager
def initialization(seed: int) -> Iterator[None]:
    """Build networks with weights that depend on ``seed`` alone; PyTorch's global generator stays untouched.

    PyTorch's layers draw their initial weights from the global generator. Inside this context it is seeded
    from the initialization stream of ``seed``; on leaving, its state is what it was before.

    Args:
        seed: the seed of the run, as in ``streams``.

    Raises:
        ValueError: the seed is not a whole number or negative.

    Example:
        >>> with initialization(0):
        ...     network = torch.nn.Linear(2, 1)
    """
    word = streams(seed).initialization.initial_seed()
    with torch.random.fork_rng():
        torch.manual_seed(word)
        yield


def reproducible(threads: int = 1) -> dict[str, object]:
    """Choose the settings under which the same seed gives the same bits, in this process from now on.

    Deterministic algorithms (an operation that has none raises), a fixed number of threads (another number
    sums in another order, hence other last bits), and denormal numbers flushed to zero (weights that shrink
    towards zero would slow the arithmetic down many times). For small networks one thread is also the
    fastest choice.

    Args:
        threads: number of PyTorch threads, at least 1.

    Returns:
        What was set, by name, fit for a run's provenance.

    Raises:
        ValueError: ``threads`` is below 1.
    """
    threads = whole("threads", threads)
    # cuBLAS reads this when it starts; it is deterministic only with a workspace of fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory finds bugs in operators but costs time in every step of a small network.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)
    flushed = torch.set_flush_denormal(True)
    return {"deterministic": True, "threads": threads, "flush_denormal": flushed}
