"""From arrays as found to parts fit for training: sizes, stratified draws, pooling, standardisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Size", "Standardize", "draw", "mean_pool", "part_sizes", "standardization"]

Size = int | float | None
Fixed = tuple[float | Sequence[float], float | Sequence[float]]
Standardize = str | Fixed | None

Floats = NDArray[np.floating]


def _count(name: str, size: int | float, total: int) -> int:
    if isinstance(size, float):
        if not 0 <= size < 1:
            raise ValueError(
                f"{name} as a fraction lies in [0, 1), as a count it is an int; got {name}={size}"
            )
        return round(size * total)
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
        raise ValueError(f"{name} is a fraction (float), a count (int) or None; got {name}={size!r}")
    return int(size)


def part_sizes(n: int, n_test: int | None, train: Size, validation: Size, test: Size) -> tuple[int, int, int]:
    """Resolve the sizes of the three parts to counts.

    Args:
        n: examples to draw training and validation from (and the test part, when ``n_test`` is None).
        n_test: examples in a test part of its own, or None when there is no such part.
        train: fraction, count, or None for all that remains.
        validation: fraction, count, or None for the usual share.
        test: fraction, count, or None for the usual share or all that remains.

    Returns:
        Counts (train, validation, test).

    Raises:
        ValueError: the parts do not fit, or the training part is empty.
    """
    own_test = n_test is not None
    n_validation = _count("validation", (0.1 if own_test else 0.2) if validation is None else validation, n)
    if n_test is not None:
        counted_test = n_test if test is None else _count("test", test, n_test)
        if counted_test > n_test:
            raise ValueError(f"test={test} asks for {counted_test} examples; there are {n_test} for testing")
        room = n
    elif test is None and train is not None:
        counted_test = n - n_validation - _count("train", train, n)
        room = n
    else:
        counted_test = _count("test", 0.2 if test is None else test, n)
        room = n - counted_test
    n_train = room - n_validation if train is None else _count("train", train, n)
    if n_train < 1 or counted_test < 0 or n_train + n_validation > room:
        raise ValueError(
            f"train={train}, validation={validation}, test={test} do not fit into {n} examples"
            f"{f' and {n_test} for testing' if own_test else ''}: they come to {n_train} for training, "
            f"{n_validation} for validation and {counted_test} for testing"
        )
    return n_train, n_validation, counted_test


def draw(
    y: NDArray[np.int64], sizes: Sequence[int], generator: torch.Generator, stratify: bool
) -> list[NDArray[np.intp]]:
    """Draw disjoint parts of the given sizes, with every class spread evenly over them.

    Stratified: the j-th of the n examples of a class, in random order, gets the place (j + 1/2)/n; all
    examples sorted by place are cut into parts. Any cut then holds of each class its share, up to one
    example.

    Args:
        y: classes of the examples to draw from, ``(n,)``.
        sizes: of the parts; together at most n. Examples that are left over belong to no part.
        generator: draws the order.
        stratify: False for a plain random split.

    Returns:
        Index arrays into ``y``, one a part, each in random order; all of ``y`` as one part keeps its order.

    Raises:
        ValueError: stratified, and a part that is not empty is smaller than the number of classes.
    """
    order = torch.randperm(len(y), generator=generator).numpy()
    if max(sizes) == len(y):
        return [np.arange(size) for size in sizes]
    if stratify:
        classes, of_class = np.unique(y[order], return_inverse=True)
        for size in sizes:
            if 0 < size < len(classes):
                raise ValueError(
                    f"a stratified part of {size} examples cannot hold all {len(classes)} classes; "
                    "choose other sizes or stratify=False"
                )
        place = np.empty(len(y))
        for c in range(len(classes)):
            members = of_class == c
            place[members] = (np.arange(members.sum()) + 0.5) / members.sum()
        order = order[np.argsort(place, kind="stable")]
    ends = np.cumsum([0, *sizes])
    parts = [order[start:end] for start, end in pairwise(ends)]
    return [part[torch.randperm(len(part), generator=generator).numpy()] for part in parts]


def mean_pool(x: Floats, pool: int) -> Floats:
    """Mean over ``pool`` x ``pool`` squares of images ``(n, channels, height, width)``."""
    n, channels, height, width = x.shape
    if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1 or height % pool or width % pool:
        raise ValueError(f"pool must divide the {height}x{width} pixels of the images; got {pool!r}")
    return x.reshape(n, channels, height // pool, pool, width // pool, pool).mean(axis=(3, 5))


def standardization(x: Floats, how: Standardize) -> tuple[Floats, Floats]:
    """Return mean and standard deviation, shaped to broadcast against one example of ``x``.

    The standard deviation of an input that never changes (a pixel that is black in all training images) is 1.

    Args:
        x: the training part, ``(n, features)`` or ``(n, channels, height, width)``.
        how: ``"feature"``, ``"channel"``, ``"global"``, None, or a pair (mean, standard deviation) of
        numbers or
            of one number for each channel.
    """
    images = x.ndim == 4
    if how is None:
        return np.zeros((1,) * (x.ndim - 1)), np.ones((1,) * (x.ndim - 1))
    if isinstance(how, str):
        axes = {"feature": (0,), "global": tuple(range(x.ndim))} | ({"channel": (0, 2, 3)} if images else {})
        if how not in axes:
            what = "images" if images else "tables"
            known = ", ".join(repr(name) for name in axes)
            raise ValueError(f"standardize of {what} is {known}, (mean, sd) or None; got {how!r}")
        return _moments(x, axes[how])
    given = [np.asarray(value, dtype=np.float64).reshape(-1) for value in how]
    n_channels = x.shape[1]
    if len(given) != 2 or any(len(v) not in (1, n_channels) for v in given) or not (given[-1] > 0).all():
        raise ValueError(
            f"standardize as numbers is (mean, sd), each one number or {n_channels}, sd above 0; got {how!r}"
        )
    shape = (-1, 1, 1) if images else (-1,)
    return given[0].reshape(shape), given[1].reshape(shape)


def _moments(x: Floats, axes: tuple[int, ...]) -> tuple[Floats, Floats]:
    mean = x.mean(axis=axes, keepdims=True, dtype=np.float64)
    total = np.zeros_like(mean)
    for start in range(0, len(x), 4096):  # in pieces: a float64 copy of CIFAR-10 alone takes 1.2 GB
        total += np.square(x[start : start + 4096] - mean).sum(axis=axes, keepdims=True)
    count = x.size // mean.size
    # compared exactly: rounding leaves a constant input a tiny deviation, which would turn it into noise
    constant = x.max(axis=axes, keepdims=True) == x.min(axis=axes, keepdims=True)
    return mean[0], np.where(constant, 1.0, np.sqrt(total / count))[0]
