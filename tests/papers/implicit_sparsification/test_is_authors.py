"""Runs at the authors' scale on a small stand-in: against the fits themselves, resumed, damaged, divergent."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from repro.learn import DataNotFoundError, perceptron
from repro.papers.implicit_sparsification import authors
from repro.papers.implicit_sparsification.authors import _SPARSITIES, full_scale_run
from repro.papers.implicit_sparsification.method import METHODS
from repro.papers.implicit_sparsification.settings import SETTINGS, Setting
from repro.papers.implicit_sparsification.training import fit

SMALL = Setting(
    "digits", partial(perceptron, (64, 4, 10)), (60, 30, 40), "feature", n_epochs=2, batch_size=30
)
GRID = {"x": (0.0,), "pilot": (1e-4, 1e-2)}
LEVELS = (0.0, 0.5, 0.9)
SEEDS = [0, 1]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SETTINGS, "small", SMALL)
    monkeypatch.setattr(authors, "_GRID", GRID)
    monkeypatch.setattr(authors, "_SPARSITIES", LEVELS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What is trained, by label and strength."""
    found: list[tuple[str, float]] = []

    def noted(where: Setting, how: Any, strengths: list[float], **options: Any) -> Any:
        found.append((how.label, *strengths))
        return fit(where, how, strengths, **options)

    monkeypatch.setattr(authors, "fit", noted)
    return found


def run(folder: Path) -> pd.DataFrame:
    return full_scale_run("small", SEEDS, folder)


def test_the_rows_are_those_of_the_fits_themselves_and_read_back_as_they_were(
    tmp_path: Path, asked: list[tuple[str, float]]
) -> None:
    table = run(tmp_path)
    assert asked == [("x", 0.0), ("PILoT", 1e-4), ("PILoT", 1e-2)]
    assert len(table) == 3 * len(SEEDS) * len(LEVELS)
    assert not table.isna().any(axis=None)
    alone = fit(SMALL, METHODS["pilot"], [1e-2], seeds=SEEDS)
    own = table[(table["method"] == "pilot") & (table["strength"] == 1e-2)].reset_index(drop=True)
    accuracies = alone.pruned_accuracy(LEVELS)
    pd.testing.assert_frame_equal(own[accuracies.columns.tolist()], accuracies)
    whole = own[own["sparsity"] == 0].set_index("seed")
    assert whole["flips"].tolist() == alone.sign_flips()["flips"].tolist()
    assert whole["dose"].tolist() == alone.course[alone.course["epoch"] == 2]["dose"].tolist()
    asked.clear()
    pd.testing.assert_frame_equal(run(tmp_path), table)
    assert not asked


def test_a_run_that_is_missing_damaged_or_made_otherwise_is_not_taken_for_one_that_is_not(
    tmp_path: Path, asked: list[tuple[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path)
    asked.clear()
    (tmp_path / "small-pilot-0.01.json").unlink()
    path = tmp_path / "small-x-0.json"
    path.write_text(path.read_text()[:100])
    with pytest.warns(UserWarning, match=r"small-x-0\.json is damaged"):
        again = run(tmp_path)
    assert asked == [("x", 0.0), ("PILoT", 1e-2)]
    np.testing.assert_allclose(again["test_accuracy"], whole["test_accuracy"])
    monkeypatch.setitem(SETTINGS, "small", replace(SMALL, n_epochs=3))
    with pytest.raises(ValueError, match=r"small-x-0\.json was made with other values of n_epochs"):
        run(tmp_path)
    monkeypatch.setitem(SETTINGS, "small", SMALL)
    monkeypatch.setitem(METHODS, "x", replace(METHODS["x"], schedule="half"))
    with pytest.raises(ValueError, match=r"small-x-0\.json was made with other values of schedule"):
        run(tmp_path)


def test_networks_that_diverge_have_no_numbers_and_are_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a strength, and of another strength one."""

    def spoiled(where: Setting, how: Any, strengths: list[float], **options: Any) -> Any:
        return replace(fit(where, how, strengths, **options), diverged=[1])

    monkeypatch.setattr(authors, "_GRID", {"pilot": (1e-4, 1e3)})
    monkeypatch.setattr(authors, "fit", spoiled)
    table = run(tmp_path)
    lost = (table["strength"] == 1e3) | (table["seed"] == SEEDS[1])
    assert (table["diverged"] == lost).all()
    numbers = table[["validation_accuracy", "test_accuracy", "dose", "flips"]]
    assert (numbers.isna().all(axis=1) == lost).all()
    assert (numbers.notna().all(axis=1) == ~lost).all()
    monkeypatch.setattr(authors, "fit", None)
    pd.testing.assert_frame_equal(run(tmp_path), table)


def test_missing_data_and_unknown_settings_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    with pytest.raises(DataNotFoundError):
        full_scale_run("resnet20-cifar10", SEEDS, tmp_path / "runs")
    with pytest.raises(ValueError, match="unknown setting"):
        full_scale_run("resnet20", SEEDS, tmp_path)


def test_the_levels_are_those_that_the_paper_lists() -> None:
    """The smallest 1 - 0.8^k, k = 1 to 25."""
    percent = [round(100 * p, 2) for p in _SPARSITIES]
    assert [percent[k] for k in (0, 1, 2, 5, 10, 20, 25)] == [0, 20, 36, 67.23, 89.26, 98.85, 99.62]
