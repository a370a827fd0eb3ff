"""The grid of runs on a small stand-in: what the files keep, what is not repeated, against the fits themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from repro.learn import DataNotFoundError, perceptron, small_cnn
from repro.learn.augmentation import random_crop_flip
from repro.papers.implicit_sparsification import full_scale, methods
from repro.papers.implicit_sparsification.fitting import Fit, fit
from repro.papers.implicit_sparsification.full_scale import PAPER_GRID, full_scale_run, full_scale_table
from repro.papers.implicit_sparsification.methods import METHODS
from repro.papers.implicit_sparsification.one_shot import pruned_accuracy, sign_flips
from repro.papers.implicit_sparsification.settings import Setting

SMALL = Setting(
    "small", "digits", partial(perceptron, (64, 12, 10)), parts=(300, 100, 200), standardize="feature",
    n_epochs=6, batch_size=50,
)  # fmt: skip
GRID = {"x": [0.0], "pilot": [1e-4, 1e-2]}
SEEDS = (0, 1)
SPARSITIES = (0.0, 0.5, 0.9)
N_RUNS = 3 * len(SEEDS)
LABELS = ["setting", "method", "strength", "seed"]
ACCURACIES = ["validation_accuracy", "test_accuracy"]
COLUMNS = [*LABELS, "sparsity", *ACCURACIES, "dose", "flips", "diverged"]


def _run(folder: Path, chosen: Setting = SMALL, **options: Any) -> pd.DataFrame:
    told = {"grid": GRID, "seeds": SEEDS, "sparsities": SPARSITIES, "progress": False} | options
    return full_scale_run(chosen, folder=folder, **told)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def frame(folder: Path) -> pd.DataFrame:
    return _run(folder)


class _Counted:
    """The fit itself, noting what it is asked for; breaks off at one call."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.asked: list[tuple[str, list[float], list[int]]] = []
        self._breaks_at = breaks_at

    def __call__(
        self,
        chosen: Setting,
        method: str,
        strengths: Sequence[float],
        *,
        seeds: Sequence[int],
        **options: Any,
    ) -> Fit:
        self.asked.append((method, list(strengths), list(seeds)))
        if len(self.asked) == self._breaks_at:
            raise KeyboardInterrupt
        return fit(chosen, method, strengths, seeds=seeds, **options)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> _Counted:
    counted = _Counted()
    monkeypatch.setattr(full_scale, "fit", counted)
    return counted


def _never(*_: object, **__: object) -> None:
    raise AssertionError("a finished run was repeated")


def test_the_rows_are_those_of_the_fits_themselves(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == COLUMNS
    assert len(frame) == N_RUNS * len(SPARSITIES)
    assert not frame.isna().any(axis=None)
    for method, strengths in GRID.items():
        alone = fit(SMALL, method, strengths, seeds=SEEDS, progress=False)
        own = frame[frame["method"] == method].set_index(["strength", "seed", "sparsity"]).sort_index()
        accuracies = pruned_accuracy(alone, SPARSITIES).set_index(["strength", "seed", "sparsity"])
        pd.testing.assert_frame_equal(own[ACCURACIES], accuracies.sort_index()[ACCURACIES])
        flips = sign_flips(alone).set_index(["strength", "seed"])["flips"]
        last = alone.course[alone.course["epoch"] == SMALL.n_epochs].set_index(["strength", "seed"])["dose"]
        for run in own.index:
            assert (own.loc[run, "flips"], own.loc[run, "dose"]) == (flips[run[:2]], last[run[:2]])
    assert not frame["diverged"].any()
    assert frame["test_accuracy"].between(0, 1).all()
    dense = frame[(frame["sparsity"] == 0) & (frame["method"] == "x")]
    assert (dense["test_accuracy"] > 0.7).all()


def test_methods_train_their_strengths_and_seeds_as_one(tmp_path: Path, counted: _Counted) -> None:
    _run(tmp_path)
    assert counted.asked == [("x", [0.0], [0, 1]), ("pilot", [1e-4, 1e-2], [0, 1])]


def test_no_more_networks_at_once_than_allowed(
    tmp_path: Path, counted: _Counted, frame: pd.DataFrame
) -> None:
    alone = _run(tmp_path, max_networks=1)
    assert [len(strengths) * len(seeds) for _, strengths, seeds in counted.asked] == [1] * N_RUNS
    pd.testing.assert_frame_equal(alone[LABELS], frame[LABELS])
    np.testing.assert_allclose(alone["test_accuracy"], frame["test_accuracy"], atol=0.02)
    counted.asked.clear()
    _run(tmp_path, grid=GRID | {"pilot": [1e-4, 1e-2, 2e-2, 3e-2, 4e-2]}, max_networks=5)
    assert counted.asked == [("pilot", [2e-2, 3e-2], [0, 1]), ("pilot", [4e-2], [0, 1])]


def test_what_is_finished_is_read_and_not_repeated(
    folder: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(list(folder.glob("*.json"))) == N_RUNS
    assert not list(folder.glob("*.part"))
    monkeypatch.setattr(full_scale, "fit", _never)
    pd.testing.assert_frame_equal(_run(folder), frame)
    fewer = _run(folder, grid={"pilot": [1e-2]}, seeds=[1])
    assert (set(fewer["strength"]), set(fewer["seed"]), len(fewer)) == ({1e-2}, {1}, len(SPARSITIES))


def test_the_table_of_a_folder_is_what_the_runs_gave(folder: Path, frame: pd.DataFrame) -> None:
    order = ["method", "strength", "seed"]
    expected = frame.sort_values(order, kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(full_scale_table(folder), expected)


def test_a_run_that_was_broken_off_goes_on_where_it_was(
    tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks = _Counted(breaks_at=2)
    monkeypatch.setattr(full_scale, "fit", breaks)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path)
    assert set(full_scale_table(tmp_path)["method"]) == {"x"}
    goes_on = _Counted()
    monkeypatch.setattr(full_scale, "fit", goes_on)
    pd.testing.assert_frame_equal(_run(tmp_path), frame)
    assert [method for method, _, _ in goes_on.asked] == ["pilot"]


def test_one_shard_at_a_time_comes_to_the_whole_grid(tmp_path: Path, frame: pd.DataFrame) -> None:
    first = _run(tmp_path, only=["pilot"], limit=3)
    assert set(first["method"]) == {"pilot"}
    assert len(list(tmp_path.glob("*.json"))) == 3
    second = _run(tmp_path, limit=2)
    assert len(second) == 5 * len(SPARSITIES)
    assert len(list(tmp_path.glob("*.json"))) == 5
    whole = _run(tmp_path)
    pd.testing.assert_frame_equal(whole[LABELS], frame[LABELS])


def test_runs_missing_for_some_seeds_are_made_for_these_alone(tmp_path: Path, counted: _Counted) -> None:
    _run(tmp_path)
    (tmp_path / "small-pilot-0.01-1.json").unlink()
    counted.asked.clear()
    assert len(_run(tmp_path)) == N_RUNS * len(SPARSITIES)
    assert counted.asked == [("pilot", [1e-2], [1])]


@pytest.mark.parametrize("damage", ['{"parameters": {"na', "", "[]", '{"rows": []}', "\udcff"])
def test_a_damaged_file_is_told_of_and_its_run_made_again(
    tmp_path: Path, counted: _Counted, damage: str
) -> None:
    whole = _run(tmp_path, grid={"x": [0.0]})
    path = tmp_path / "small-x-0.0-1.json"
    path.write_text(damage, errors="surrogateescape")
    with pytest.warns(UserWarning, match=r"small-x-0\.0-1\.json is damaged.*left out"):
        assert set(full_scale_table(tmp_path)["seed"]) == {0}
    counted.asked.clear()
    with pytest.warns(UserWarning, match=r"small-x-0\.0-1\.json is damaged.*made again"):
        again = _run(tmp_path, grid={"x": [0.0]})
    assert counted.asked == [("x", [0.0], [1])]
    pd.testing.assert_frame_equal(again[LABELS], whole[LABELS])
    assert full_scale_table(tmp_path)["seed"].nunique() == 2


def test_missing_data_are_named_and_finished_runs_still_read(
    folder: Path, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "no-data"
    empty.mkdir()
    monkeypatch.setenv("REPRO_DATA", str(empty))
    with pytest.raises(DataNotFoundError):
        _run(tmp_path / "runs", replace(SMALL, dataset="cifar10", images=True, standardize="channel"))
    assert full_scale_table(tmp_path / "runs").empty
    assert list(full_scale_table(tmp_path / "runs").columns) == COLUMNS
    assert len(full_scale_table(folder)) == len(frame)


def test_files_of_other_runs_are_not_taken_for_these(
    folder: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ValueError, match=r"small-x-0\.0-0\.json was made with other values of \['n_epochs'\]"
    ):
        _run(folder, replace(SMALL, n_epochs=7))
    with pytest.raises(ValueError, match=r"\['sparsities'\]"):
        _run(folder, sparsities=[0.5])
    with pytest.raises(ValueError, match=r"\['build'\]"):
        _run(folder, replace(SMALL, build=partial(perceptron, (64, 13, 10))))
    changed = METHODS | {"x": replace(METHODS["x"], schedule="half")}
    with monkeypatch.context() as patch:
        patch.setattr(methods, "METHODS", changed)
        with pytest.raises(ValueError, match=r"\['schedule'\]"):
            _run(folder)
    other = replace(SMALL, name="other", n_epochs=1)
    together = _run(folder, other, grid={"x": [0.0]}, seeds=[0])
    assert set(together["setting"]) == {"other"}
    assert set(full_scale_table(folder)["setting"]) == {"small", "other"}
    next(folder.glob("other-*.json")).unlink()


def test_files_say_how_a_run_was_made_alike_in_every_process(folder: Path, frame: pd.DataFrame) -> None:
    kept = json.loads((folder / "small-pilot-0.0001-1.json").read_text())
    assert kept["run"] == {"method": "pilot", "strength": 1e-4, "seed": 1}
    assert kept["parameters"]["build"] == {"function": "perceptron", "args": [[64, 12, 10]]}
    assert kept["trained_with"] == [[1e-4, 0], [1e-4, 1], [1e-2, 0], [1e-2, 1]]
    assert " at 0x" not in json.dumps(kept)


def test_a_network_that_diverges_is_kept_as_such_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _run(tmp_path, grid={"pilot": [1e-4, 1e3]}, seeds=[0])
    all_of_them = _run(tmp_path, replace(SMALL, name="fast", factor_rate=1e4), grid={"mw": [0.0]})
    assert dict(zip(one["strength"], one["diverged"], strict=True)) == {1e-4: False, 1e3: True}
    assert len(all_of_them) == 2 * len(SPARSITIES)
    assert all_of_them["diverged"].all()
    lost = pd.concat([one[one["diverged"]], all_of_them])
    assert lost[[*ACCURACIES, "dose", "flips"]].isna().all(axis=None)
    assert list(lost["sparsity"]) == [*SPARSITIES] * 3
    monkeypatch.setattr(full_scale, "fit", _never)
    pd.testing.assert_frame_equal(_run(tmp_path, grid={"pilot": [1e-4, 1e3]}, seeds=[0]), one)


@pytest.mark.parametrize("augmented", [True, False])
def test_images_are_augmented_where_the_setting_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, augmented: bool
) -> None:
    given = []

    def noted(*arguments: Any, **options: Any) -> Fit:
        given.append(options["augment"])
        return fit(*arguments, **options)

    monkeypatch.setattr(full_scale, "fit", noted)
    images = replace(
        SMALL,
        build=partial(small_cnn, width=2),
        images=True,
        standardize="channel",
        n_epochs=1,
        augmented=augmented,
    )
    found = _run(tmp_path, images, grid={"x": [0.0]}, seeds=[0])
    assert given == [random_crop_flip(4, flip=True) if augmented else None]
    assert len(found) == len(SPARSITIES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_finds_the_same(tmp_path: Path) -> None:
    """Networks are trained and pruned on the GPU; in float32 the course differs by rounding only."""
    there, here = (_run(tmp_path / device, device=device) for device in ("cuda", "cpu"))
    pd.testing.assert_frame_equal(there[LABELS], here[LABELS])
    np.testing.assert_allclose(there["test_accuracy"], here["test_accuracy"], atol=0.03)


def test_the_grid_has_the_strengths_that_the_paper_lists() -> None:
    assert set(PAPER_GRID) <= set(METHODS)
    for name, listed in {"pilot": (1e-4, 3e-4, 1e-3), "l1_x": (1e-4, 1e-3)}.items():
        assert [strength * METHODS[name].scale for strength in PAPER_GRID[name]] == pytest.approx(listed)


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown setting 'resnet20'"):
        full_scale_run("resnet20", folder=tmp_path)
    with pytest.raises(ValueError, match="unknown method 'pilott'; did you mean 'pilot'"):
        _run(tmp_path, grid={"pilott": [1e-4]})
    with pytest.raises(ValueError, match=r"0 or above; got \[0\.1, -0\.1\] for 'pilot'"):
        _run(tmp_path, grid={"pilot": [0.1, -0.1]})
    with pytest.raises(ValueError, match=r"at least one number.*got \[\] for 'x'"):
        _run(tmp_path, grid={"x": []})
    with pytest.raises(ValueError, match=r"only takes methods of the grid.*got \['mw'\]"):
        _run(tmp_path, only=["mw"])
    with pytest.raises(ValueError, match=r"only takes methods of the grid.*got 'x'"):
        _run(tmp_path, only="x")
    with pytest.raises(ValueError, match="limit must be a whole number, 1 or above; got 0"):
        _run(tmp_path, limit=0)
    with pytest.raises(ValueError, match=r"max_networks must be a whole number, 1 or above; got 2\.5"):
        _run(tmp_path, max_networks=2.5)
    with pytest.raises(ValueError, match=r"seeds must be .*different.*got \[1, 1\]"):
        _run(tmp_path, seeds=[1, 1])
    with pytest.raises(ValueError, match=r"in \[0, 1\]; got \[0\.5, 90\]"):
        _run(tmp_path, sparsities=[0.5, 90])
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        full_scale_table(tmp_path / "nowhere")
    assert not list(tmp_path.iterdir())
