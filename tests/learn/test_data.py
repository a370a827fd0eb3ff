"""Loading, splitting and standardising; what is said when data are missing, damaged or asked for wrongly."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from repro.learn import CorruptDataError, DataNotFoundError, _sources, load, streams
from repro.learn._splits import draw, mean_pool, part_sizes, standardization
from repro.learn.data import _CATALOGUE, NAMES

EMBEDDED = ("iris", "wine", "breast_cancer", "digits", "mnist5k")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no cache of the user's, no system folder."""

    def refuse(*_: object) -> None:
        raise OSError("a test tried to reach the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_sources, "SYSTEM_FOLDER", tmp_path / "system")


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_split_and_standardise(name: str) -> None:
    dataset = load(name, seed=1)
    sizes = [len(y) for _, _, y in dataset.parts()]
    assert sum(sizes) == len(_sources.embedded(name).y)
    assert (dataset.x_train.dtype, dataset.y_train.dtype) == (torch.float32, torch.int64)
    assert dataset.n_classes == len(dataset.y_train.unique())
    mean, deviation = dataset.x_train.mean(0), dataset.x_train.std(0, correction=0)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=2e-5, rtol=0)
    assert ((deviation - 1).abs() < 1e-4).logical_or(deviation == 0).all()
    shares = [torch.bincount(y, minlength=dataset.n_classes) / len(y) for _, _, y in dataset.parts()]
    for (_, _, y), share in zip(dataset.parts(), shares, strict=True):
        assert ((share - shares[0]).abs() <= 1 / len(y) + 1 / sizes[0]).all()
    assert dataset.licence
    assert dataset.checksum == _CATALOGUE[name].checksum
    assert repr(dataset).startswith(f"Dataset({name}: {sizes[0]} training")


def test_standardisation_agrees_with_scikit_learn() -> None:
    raw = load("breast_cancer", seed=2, standardize=None)
    scaler = StandardScaler().fit(raw.x_train.double().numpy())
    ours = load("breast_cancer", seed=2)
    for part in ("x_train", "x_validation", "x_test"):
        expected = scaler.transform(getattr(raw, part).double().numpy())
        np.testing.assert_allclose(getattr(ours, part).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_split_is_a_partition_of_the_original_rows() -> None:
    dataset = load("iris", seed=4, standardize=None)
    rows = torch.cat([torch.cat([x, y[:, None]], dim=1) for _, x, y in dataset.parts()]).numpy()
    x, y = datasets.load_iris(return_X_y=True)
    original = np.column_stack([x, y]).astype(np.float32)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], original[np.lexsort(original.T)])


def test_the_split_follows_the_seed() -> None:
    one, same, other = load("digits", seed=5), load("digits", seed=5), load("digits", seed=6)
    assert torch.equal(one.x_train, same.x_train)
    assert torch.equal(one.y_test, same.y_test)
    assert not torch.equal(one.y_train, other.y_train)


def test_settings_of_the_papers() -> None:
    digits = load("digits", train=200, validation=0, standardize="global")
    assert (len(digits.y_train), len(digits.y_validation), len(digits.y_test)) == (200, 0, 1597)
    assert digits.x_validation.shape == (0, 64)
    assert digits.x_train.mean().item() == pytest.approx(0, abs=1e-6)
    assert digits.x_train.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    small = load("mnist5k", train=500, validation=0, pool=2, images=True, standardize=(0.1307, 0.3081))
    assert small.x_train.shape == (500, 1, 14, 14)
    assert len(small.y_test) == 4500
    pixels = small.x_train * 0.3081 + 0.1307
    assert pixels.min().item() == pytest.approx(0, abs=1e-6)
    assert pixels.max() <= 1 + 1e-6
    flat = load("mnist5k", train=500, validation=0, pool=2, standardize=(0.1307, 0.3081))
    assert torch.equal(flat.x_train, small.x_train.flatten(1))
    assert flat.n_features == 196


def test_to_changes_type_and_leaves_the_labels() -> None:
    dataset = load("iris").to(torch.float64)
    assert (dataset.x_test.dtype, dataset.y_test.dtype) == (torch.float64, torch.int64)


@given(
    counts=st.lists(st.integers(6, 30), min_size=2, max_size=5),
    shares=st.tuples(st.floats(0.1, 0.6), st.floats(0.1, 0.3)),
    seed=st.integers(0, 1000),
)
def test_stratified_parts_hold_each_class_in_its_share(
    counts: list[int], shares: tuple[float, float], seed: int
) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    n = len(y)
    sizes = [max(len(counts), round(share * n)) for share in shares]
    sizes.append(max(n - sum(sizes), 0))
    if sum(sizes) > n or 0 < sizes[2] < len(counts):
        return
    parts = draw(y, sizes, streams(seed).data, stratify=True)
    assert [len(part) for part in parts] == sizes
    assert len(np.unique(np.concatenate(parts))) == sum(sizes)
    for part in parts:
        expected = np.asarray(counts) * len(part) / n
        assert (np.abs(np.bincount(y[part], minlength=len(counts)) - expected) <= 1.5).all()


def test_shares_of_classes_agree_with_scikit_learn() -> None:
    y = datasets.load_wine().target
    ours = draw(y, (120, 58), streams(0).data, stratify=True)[1]
    theirs = train_test_split(np.arange(len(y)), test_size=58, stratify=y, random_state=0)[1]
    assert np.abs(np.bincount(y[ours]) - np.bincount(y[theirs])).max() <= 1


def test_without_stratification_shares_vary() -> None:
    y = np.repeat([0, 1], 50)
    shares = {int(y[draw(y, (20, 80), streams(s).data, stratify=False)[0]].sum()) for s in range(20)}
    fixed = {int(y[draw(y, (20, 80), streams(s).data, stratify=True)[0]].sum()) for s in range(20)}
    assert len(shares) > 3  # control
    assert fixed == {10}


def test_part_sizes() -> None:
    assert part_sizes(1797, None, None, None, None) == (1079, 359, 359)
    assert part_sizes(1797, None, 200, 0, None) == (200, 0, 1597)
    assert part_sizes(100, None, None, 10, 30) == (60, 10, 30)
    assert part_sizes(60_000, 10_000, None, None, None) == (54_000, 6_000, 10_000)
    assert part_sizes(60_000, 10_000, 1000, 0, 0.5) == (1000, 0, 5000)


def test_mean_pool_and_constant_pixels() -> None:
    x = np.arange(16, dtype=np.float64).reshape(1, 1, 4, 4)
    assert mean_pool(x, 2).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    constant = np.full((5, 3), 0.1)  # its mean rounds, so that a naive deviation is 1e-17 rather than 0
    _, deviation = standardization(constant, "feature")
    assert deviation.tolist() == [1.0, 1.0, 1.0]


def test_standardize_by_channel() -> None:
    x = np.random.default_rng(0).normal([[[1.0]], [[5.0]]], [[[2.0]], [[3.0]]], (4, 2, 6, 6))
    mean, deviation = standardization(x, "channel")
    np.testing.assert_allclose(mean[:, 0, 0], x.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(deviation[:, 0, 0], x.std(axis=(0, 2, 3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "fashion-mnits"}, "unknown data set 'fashion-mnits'; did you mean 'fashion_mnist'"),
        ({"name": "zzz"}, "unknown data set 'zzz'; known: iris"),
        ({"name": "iris", "images": True}, "'iris' is a table"),
        ({"name": "iris", "pool": 2}, "'iris' is a table"),
        ({"name": "digits", "pool": 3}, "pool must divide the 8x8 pixels of the images; got 3"),
        ({"name": "digits", "train": 1700, "validation": 100, "test": 100}, "do not fit into 1797 examples"),
        ({"name": "digits", "train": 0}, "do not fit"),
        ({"name": "digits", "train": 5, "validation": 0}, "part of 5 examples cannot hold all 10 classes"),
        ({"name": "digits", "validation": 1.5}, r"fraction lies in \[0, 1\)"),
        ({"name": "digits", "test": -3}, "test is a fraction"),
        ({"name": "digits", "standardize": "pixel"}, "got 'pixel'"),
        ({"name": "iris", "standardize": "channel"}, "tables is 'feature', 'global'"),
        ({"name": "digits", "standardize": (0.1, 0.0)}, "sd above 0"),
        ({"name": "digits", "standardize": (0.1, (1.0, 2.0))}, "each one number or 1"),
        ({"name": "digits", "seed": -1}, "seed is a whole number"),
    ],
)
def test_bad_arguments_are_quoted(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(**arguments)  # type: ignore[arg-type]


# ---- full data sets, with files made here


def write_idx(path: Path, array: np.ndarray, zipped: bool = True) -> None:
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if zipped else content)


def small_arrays(shape: tuple[int, ...] = (4, 4)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 60), ("test", 20)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"y_{part}"] = (np.arange(n) % 10).astype(np.uint8)
    return arrays


def write_idx_folder(folder: Path, zipped: bool = True) -> dict[str, np.ndarray]:
    arrays = small_arrays()
    for part, stem in _sources.IDX_FILES.items():
        write_idx(folder / (stem + ".gz" * zipped), arrays[part], zipped)
    return arrays


def check(raw: _sources.Raw, arrays: dict[str, np.ndarray]) -> None:
    assert raw.test is not None
    np.testing.assert_array_equal(raw.x, arrays["x_train"])
    np.testing.assert_array_equal(raw.test[0], arrays["x_test"])
    assert raw.y.tolist() == arrays["y_train"].tolist()


@pytest.mark.parametrize(
    ("name", "folder", "zipped"),
    [
        ("mnist", "mnist", True),
        ("fashion_mnist", "fashion-mnist", True),
        ("fashion_mnist", "fashion_mnist", True),
        ("mnist", "mnist", False),
        ("mnist", "MNIST/raw", False),
        ("fashion_mnist", "FashionMNIST/raw", False),
    ],
)
def test_folders_of_repro_data(
    name: str, folder: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = write_idx_folder(tmp_path / folder, zipped)
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    raw = _sources.full(name, download=False)
    check(raw, arrays)
    assert str(tmp_path / folder) in raw.source


def test_repro_data_comes_before_the_system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx_folder(tmp_path / "system" / "fashion-mnist")
    assert "system" in _sources.full("fashion_mnist", download=False).source
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    np.savez(tmp_path / "fashion_mnist.npz", **small_arrays())  # type: ignore[arg-type]
    assert _sources.full("fashion_mnist", download=False).source.endswith("fashion_mnist.npz")


def test_cifar10_from_npz_is_loaded_as_channels_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = small_arrays((4, 4, 3))
    np.savez(tmp_path / "cifar10.npz", **arrays)  # type: ignore[arg-type]
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    dataset = load("cifar10", validation=0, images=True, standardize=(0.5, 0.5), download=False)
    assert dataset.x_train.shape == (60, 3, 4, 4)
    expected = (arrays["x_train"].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(dataset.x_train.numpy(), expected, atol=1e-6)
    assert dataset.y_train.tolist() == arrays["y_train"].tolist()  # a part that is everything keeps its order


def test_other_contents_under_a_known_name_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "mnist.npz", **small_arrays())  # type: ignore[arg-type]
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    found = _sources.full("mnist", download=False).checksum
    with pytest.raises(
        CorruptDataError, match=f"expected sha256 {_CATALOGUE['mnist'].checksum}, found {found}"
    ):
        load("mnist")


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_truncated_files_are_named(cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx_folder(tmp_path / "mnist")
    path = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-cut])
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    with pytest.raises(CorruptDataError, match=r"cannot read .*train-images-idx3-ubyte\.gz"):
        _sources.full("mnist", download=False)


@pytest.mark.parametrize("content", [b"", b"PK no zip", b"\x00\x00\x08\x03\x00\x00"])
def test_damaged_files_are_named(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    (tmp_path / "cifar10.npz").write_bytes(content)
    with pytest.raises(CorruptDataError, match=r"cannot read .*cifar10\.npz"):
        _sources.full("cifar10", download=False)
    write_idx_folder(tmp_path / "mnist", zipped=False)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(CorruptDataError, match="t10k-labels"):
        _sources.full("mnist", download=False)


def test_a_damaged_torchvision_folder_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    with pytest.raises(CorruptDataError, match="not found or corrupted"):
        _sources.full("cifar10", download=False)


def test_a_missing_file_of_four_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "system" / "fashion-mnist"
    write_idx_folder(folder)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFoundError, match="lacks t10k-labels-idx1-ubyte"):
        load("fashion_mnist")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"y_test": a["y_test"][:-1]}, "test images of shape"),
        (lambda a: a | {"x_train": a["x_train"].astype(np.float32)}, "must be uint8"),
        (lambda a: {k: v for k, v in a.items() if k != "y_train"}, "y_train"),
    ],
)
def test_npz_with_wrong_arrays(
    change: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "cifar10.npz", **change(small_arrays((4, 4, 3))))  # type: ignore[operator]
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    with pytest.raises(CorruptDataError, match=message):
        load("cifar10")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_missing_data_say_the_three_ways(name: str) -> None:
    with pytest.raises(DataNotFoundError) as caught:
        load(name, download=False)
    message = str(caught.value)
    for way in ("1. set REPRO_DATA", "2. ", "3. load it once with a network", f"{name}.npz"):
        assert way in message
    assert ("dataset-fashion-mnist" in message) == (name == "fashion_mnist")


def test_a_folder_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REPRO_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError, match="which is not a folder"):
        load("mnist", download=False)


class FakeCifar:
    """Stands in for torchvision's class: with a network, or without one."""

    reachable = True

    def __init__(self, root: str, train: bool, download: bool) -> None:
        if not download or not self.reachable:
            raise RuntimeError("no connection")
        arrays = small_arrays((4, 4, 3))
        part = "train" if train else "test"
        self.data, self.targets = arrays[f"x_{part}"], arrays[f"y_{part}"].tolist()


def test_download_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    monkeypatch.setattr(datasets, "CIFAR10", FakeCifar)
    assert len(load("cifar10", validation=0).y_train) == 60
    monkeypatch.setattr(FakeCifar, "reachable", False)
    with pytest.raises(DataNotFoundError, match=r"download into .* failed \(no connection\)"):
        load("cifar10")


def test_the_checksum_sees_values_shapes_and_types() -> None:
    x = np.arange(6, dtype=np.int64)
    prints = {
        _sources.fingerprint(a)
        for a in (x, x[::-1], x.reshape(2, 3), x.astype(np.int32), x.astype(">i8").astype(np.float64))
    }
    assert len(prints) == 5
    assert _sources.fingerprint(x.astype(">i8")) == _sources.fingerprint(x)


def test_every_name_has_a_licence() -> None:
    assert set(NAMES) == set(EMBEDDED) | set(_sources.LAYOUTS)
    assert all(_CATALOGUE[name].licence for name in NAMES)


DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_from_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sources, "SYSTEM_FOLDER", DEBIAN.parent)
    dataset = load("fashion_mnist", train=100, validation=0, test=100, download=False)
    assert dataset.source == str(DEBIAN)
    assert dataset.x_test.shape == (100, 784)
