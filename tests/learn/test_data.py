"""Loading, splitting, standardising, cropping; what is said when data are missing, damaged or asked for wrongly."""

import gzip
import struct

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from repro.learn import CorruptDataError, DataNotFoundError, load, random_crop_flip, sources, streams
from repro.learn.data import _part_sizes, _values, draw, standardization


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No network, no cache of the user's, no system folder."""

    def refuse(*_):
        raise OSError("a test tried to reach the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "_SYSTEM_FOLDER", tmp_path / "system")


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "mnist5k"])
def test_embedded_sets_split_and_standardise(name):
    dataset = load(name, seed=1)
    assert sum(len(y) for _, _, y in dataset.parts()) == len(sources.embedded(name).y)
    assert (dataset.x_train.dtype, dataset.y_train.dtype) == (torch.float32, torch.int64)
    assert dataset.n_classes == len(dataset.y_train.unique())
    assert dataset.checksum == sources._KNOWN[name].checksum
    if name == "mnist5k":  # reading it again takes seconds
        how = {"train": 500, "pool": 2, "standardize": (0.1, 0.3)}
        small, flat = (load(name, images=images, **how) for images in (True, False))
        assert small.x_train.shape == (500, 1, 14, 14)
        assert torch.equal(flat.x_train, small.x_train.flatten(1))
        pixels = small.x_train * 0.3 + 0.1
        assert pixels.min().item() == pytest.approx(0, abs=1e-6)
        assert pixels.max() <= 1 + 1e-6


def test_standardisation_agrees_with_scikit_learn():
    raw = load("breast_cancer", seed=2, standardize=None)
    scaler = StandardScaler().fit(raw.x_train.double().numpy())
    ours = load("breast_cancer", seed=2)
    for part in ("x_train", "x_validation", "x_test"):
        expected = scaler.transform(getattr(raw, part).double().numpy())
        np.testing.assert_allclose(getattr(ours, part).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_the_split_is_a_partition_of_the_original_rows_and_follows_the_seed():
    dataset, same, other = (load("iris", seed=seed, standardize=None) for seed in (4, 4, 5))
    rows = torch.cat([torch.cat([x, y[:, None]], dim=1) for _, x, y in dataset.parts()]).numpy()
    x, y = datasets.load_iris(return_X_y=True)
    original = np.column_stack([x, y]).astype(np.float32)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], original[np.lexsort(original.T)])
    assert torch.equal(dataset.x_train, same.x_train)
    assert not torch.equal(dataset.y_train, other.y_train)


@given(
    counts=st.lists(st.integers(6, 30), min_size=2, max_size=5),
    shares=st.tuples(st.floats(0.1, 0.6), st.floats(0.1, 0.3)),
    seed=st.integers(0, 1000),
)
def test_parts_hold_each_class_in_its_share(counts, shares, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    n = len(y)
    sizes = [max(len(counts), round(share * n)) for share in shares]
    sizes.append(n - sum(sizes))
    assume(sizes[2] == 0 or sizes[2] >= len(counts))
    parts = draw(y, sizes, streams(seed).data)
    assert [len(part) for part in parts] == sizes
    assert len(np.unique(np.concatenate(parts))) == sum(sizes)
    for part in parts:
        expected = np.asarray(counts) * len(part) / n
        assert (np.abs(np.bincount(y[part], minlength=len(counts)) - expected) <= 1.5).all()


def test_part_sizes():
    assert _part_sizes(1797, None, None, None, None) == (1079, 359, 359)
    assert _part_sizes(1797, None, 200, 0, None) == (200, 0, 1597)
    assert _part_sizes(100, None, None, 10, 30) == (60, 10, 30)
    assert _part_sizes(60_000, 10_000, None, None, None) == (54_000, 6_000, 10_000)
    assert _part_sizes(60_000, 10_000, 1000, 0, 0.5) == (1000, 0, 5000)


def test_pools_constant_pixels_and_channels():
    x = np.arange(16).reshape(1, 4, 4)
    assert _values(x, 1, 2).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    constant = np.full((5, 3), 0.1)  # its mean rounds, so that a naive deviation is 1e-17 rather than 0
    assert standardization(constant, "feature")[1].tolist() == [1.0, 1.0, 1.0]
    x = np.random.default_rng(0).normal([[[1.0]], [[5.0]]], [[[2.0]], [[3.0]]], (4, 2, 6, 6))
    for how, axes in (("channel", (0, 2, 3)), ("global", (0, 1, 2, 3))):
        mean, deviation = standardization(x, how)
        np.testing.assert_allclose(mean.ravel(), np.ravel(x.mean(axis=axes)))
        np.testing.assert_allclose(deviation.ravel(), np.ravel(x.std(axis=axes)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "fashion-mnits"}, "did you mean 'fashion_mnist'"),
        ({"name": "digits", "train": 1700, "validation": 100, "test": 100}, "do not fit into 1797 examples"),
        ({"name": "digits", "train": 5, "validation": 0}, "part of 5 examples cannot hold all 10 classes"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**arguments)


def small_arrays(shape=(4, 4)):
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", 60), ("test", 20)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
        arrays[f"y_{part}"] = (np.arange(n) % 10).astype(np.uint8)
    return arrays


def write_idx_folder(folder, zipped=True):
    folder.mkdir(parents=True)
    for part, stem in sources._IDX_FILES.items():
        array = small_arrays()[part]
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
        (folder / (stem + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)


@pytest.fixture
def repro_data(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "folder", "zipped"),
    [
        ("mnist", "mnist", True),
        ("fashion_mnist", "fashion-mnist", True),
        ("fashion_mnist", "fashion_mnist", False),
        ("mnist", "MNIST/raw", False),
    ],
)
def test_folders_of_repro_data(name, folder, zipped, repro_data):
    write_idx_folder(repro_data / folder, zipped)
    raw, arrays = sources._full(name), small_arrays()
    assert raw.test is not None
    np.testing.assert_array_equal(raw.x, arrays["x_train"])
    np.testing.assert_array_equal(raw.test[0], arrays["x_test"])
    assert raw.y.tolist() == arrays["y_train"].tolist()
    assert raw.source == str(repro_data / folder)


def test_repro_data_comes_before_the_system_folder_and_a_missing_file_of_four_is_named(tmp_path, monkeypatch):
    folder = tmp_path / "system" / "fashion-mnist"
    write_idx_folder(folder)
    assert sources._full("fashion_mnist").source == str(folder)
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFoundError, match="lacks t10k-labels-idx1-ubyte"):
        load("fashion_mnist")
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    np.savez(tmp_path / "fashion_mnist.npz", **small_arrays())
    assert sources._full("fashion_mnist").source.endswith("fashion_mnist.npz")


def test_cifar10_from_npz_is_loaded_as_channels_first(repro_data):
    arrays = small_arrays((4, 4, 3))
    np.savez(repro_data / "cifar10.npz", **arrays)
    dataset = load("cifar10", validation=0, images=True, standardize=(0.5, 0.5))
    expected = (arrays["x_train"].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
    np.testing.assert_allclose(dataset.x_train.numpy(), expected, atol=1e-6)
    assert dataset.y_train.tolist() == arrays["y_train"].tolist()  # a part that is everything keeps its order


def test_other_contents_under_a_known_name_are_refused(repro_data):
    np.savez(repro_data / "mnist.npz", **small_arrays())
    expected = sources._KNOWN["mnist"].checksum
    with pytest.raises(CorruptDataError, match=f"expected sha256 {expected}, found [0-9a-f]{{64}}"):
        load("mnist")


@pytest.mark.parametrize("content", [b"", b"PK no zip", b"\x00\x00\x08\x03\x00\x00"])
def test_damaged_files_are_named(content, repro_data):
    (repro_data / "cifar10.npz").write_bytes(content)
    with pytest.raises(CorruptDataError, match=r"cannot read .*cifar10\.npz"):
        sources._full("cifar10")
    write_idx_folder(repro_data / "mnist", zipped=False)
    (repro_data / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(CorruptDataError, match="t10k-labels"):
        sources._full("mnist")


class FakeImages:
    """Stands in for torchvision's classes: with a network, or without one."""

    reachable = True

    def __init__(self, root, train, download):
        if not download or not self.reachable:
            raise RuntimeError("no connection")
        arrays = small_arrays((4, 4, 3))
        part = "train" if train else "test"
        self.data, self.targets = arrays[f"x_{part}"], arrays[f"y_{part}"].tolist()


def test_download_is_the_last_resort_and_without_a_network_the_ways_are_said(monkeypatch, tmp_path):
    from torchvision import datasets

    for name in ("CIFAR10", "MNIST", "FashionMNIST"):
        monkeypatch.setattr(datasets, name, FakeImages)
    assert len(load("cifar10", validation=0).y_train) == 60
    monkeypatch.setattr(FakeImages, "reachable", False)
    for name in ("mnist", "fashion_mnist", "cifar10"):
        with pytest.raises(DataNotFoundError, match=r"failed .*no connection(.|\n)*set REPRO_DATA"):
            load(name)
    monkeypatch.setenv("REPRO_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError, match="which is not a folder"):
        load("mnist")


# --- random crops and flips ------------------------------------------------------------------------------------------


def _generator(seed=3):
    return torch.Generator().manual_seed(seed)


def _images(*shape):
    return torch.randn(*shape, generator=_generator(0))


def _loop(x, padding, generator):
    """The definition, pixel by pixel, with the same draws in the same order."""
    n_images, _, height, width = x.shape
    down, right = torch.randint(2 * padding + 1, (2, n_images), generator=generator).tolist()
    mirrored = torch.randint(2, (n_images,), generator=generator).tolist()
    out = torch.zeros_like(x)
    for n in range(n_images):
        for h in range(height):
            for w in range(width):
                row = h + down[n] - padding
                column = (width - 1 - w if mirrored[n] else w) + right[n] - padding
                if 0 <= row < height and 0 <= column < width:
                    out[n, :, h, w] = x[n, :, row, column]
    return out


@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("shape", [(12, 3, 7, 5), (2, 9, 3, 6, 6)])
def test_each_image_of_each_member_is_cropped_as_the_definition_says(shape, padding):
    x = _images(*shape)
    got = random_crop_flip(x, _generator(), padding=padding)
    assert torch.equal(got.flatten(0, -4), _loop(x.flatten(0, -4), padding, _generator()))


def test_all_offsets_and_both_mirrorings_are_equally_frequent():
    n = 9000
    x = torch.zeros(n, 1, 5, 5)
    x[:, :, 2, 2] = 1  # one dot, which tells where the crop began
    got = random_crop_flip(x, _generator(), padding=1)
    counts = got.sum(dim=(0, 1))[1:4, 1:4].flatten().numpy()
    assert counts.sum() == n
    assert chisquare(counts).pvalue > 1e-3
    x = _images(400, 1, 3, 3)
    got = random_crop_flip(x, _generator(), padding=0)
    kept, mirrored = ((got == each).flatten(1).all(dim=1) for each in (x, x.flip(-1)))
    assert torch.equal(kept, ~mirrored)
    assert chisquare(np.bincount(mirrored.numpy())).pvalue > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_gives_the_same_images():
    x = _images(3, 16, 3, 32, 32)
    got = random_crop_flip(x.cuda(), _generator())
    assert got.is_cuda
    assert torch.equal(got.cpu(), random_crop_flip(x, _generator()))


def test_rows_of_numbers_are_no_images():
    with pytest.raises(ValueError, match=r"got \(8, 64\) of torch.float32"):
        random_crop_flip(torch.zeros(8, 64), _generator())
