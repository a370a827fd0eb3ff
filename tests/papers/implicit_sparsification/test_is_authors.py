"""Runs at the authors' scale on a small stand-in: against the fits themselves, resumed, out of time, divergent."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest

from repro.learn import perceptron
from repro.papers.implicit_sparsification import authors
from repro.papers.implicit_sparsification.authors import at_scale
from repro.papers.implicit_sparsification.method import METHODS, Choice
from repro.papers.implicit_sparsification.settings import _SETTINGS, _Setting
from repro.papers.implicit_sparsification.training import _fit

HOW = {"n_epochs": 2, "batch_size": 30}
SMALL = _Setting("digits", partial(perceptron, (64, 4, 10)), (60, 30, 40), "feature", **HOW)
GRID = {"x": (Choice(0.0),), "pilot": (Choice(1e-4, "half", 0.2), Choice(1e-2, "half", 0.2))}
LEVELS = (0.0, 0.5, 0.9)
SEEDS = [0, 1]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(_SETTINGS, "small", SMALL)
    monkeypatch.setattr(authors, "_PLACES", ("small",))
    monkeypatch.setattr(authors, "_GRID", GRID)
    monkeypatch.setattr(authors, "_SPARSITIES", LEVELS)


@pytest.fixture
def asked(monkeypatch):
    """What is trained, by label, strength and seed."""
    found = []

    def noted(where, how, choices, *, seeds, **options):
        found.append((how.label, choices[0].strength, *seeds))
        return _fit(where, how, choices, seeds=seeds, **options)

    monkeypatch.setattr(authors, "_fit", noted)
    return found


def test_parts_come_seed_by_seed_as_fitted_and_read_back_for_one_setting(tmp_path, asked, monkeypatch):
    table = at_scale(SEEDS, tmp_path, 60)
    parts = (("x", 0.0), ("PILoT", 1e-4), ("PILoT", 1e-2))
    assert asked == [(*part, seed) for seed in SEEDS for part in parts]
    assert len(table) == 3 * len(SEEDS) * len(LEVELS)
    assert not table.isna().any(axis=None)
    alone = _fit(SMALL, METHODS["pilot"], GRID["pilot"][1:], seeds=[1])
    own = table[(table["method"] == "pilot") & (table["strength"] == 1e-2) & (table["seed"] == 1)]
    accuracies = alone.pruned_accuracy(LEVELS)
    pd.testing.assert_frame_equal(own[accuracies.columns.tolist()].reset_index(drop=True), accuracies)
    asked.clear()
    pd.testing.assert_frame_equal(at_scale(SEEDS, tmp_path, 0), table)
    assert not asked
    monkeypatch.setitem(_SETTINGS, "small", replace(SMALL, n_epochs=3))
    with pytest.raises(ValueError, match=r"small-x.* was made with other values of n_epochs"):
        at_scale(SEEDS, tmp_path, 60)


def test_a_part_that_would_end_too_late_is_not_begun_and_a_later_call_goes_on(tmp_path, asked, monkeypatch):
    assert at_scale(SEEDS, tmp_path, 0).empty
    clock = iter(range(0, 1000, 10))  # ten seconds between two looks, so that a part takes ten or more
    monkeypatch.setattr(authors.time, "perf_counter", lambda: next(clock))
    some = at_scale(SEEDS, tmp_path, 60)
    assert 0 < len(asked) < 6
    assert len(some) == len(asked) * len(LEVELS)
    clock = iter(range(0, 10_000, 10))
    assert len(at_scale(SEEDS, tmp_path, 5_000)) == 6 * len(LEVELS)
    assert len(asked) == 6


def test_a_network_that_diverges_has_no_numbers_and_data_that_are_missing_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    monkeypatch.setattr(authors, "_PLACES", ("resnet20-cifar10", "small"))
    monkeypatch.setattr(authors, "_GRID", {"pilot": (Choice(1e4, rate=0.2), Choice(1e-4, rate=0.2))})
    table = at_scale([0], tmp_path / "runs", 60)
    assert set(table["setting"]) == {"small"}
    lost = table["strength"] == 1e4
    numbers = table[["validation_accuracy", "test_accuracy", "zeros", "flips"]]
    assert table["diverged"].tolist() == lost.tolist()
    assert (numbers.isna().all(axis=1) == lost).all()
    assert (numbers.notna().all(axis=1) == ~lost).all()
