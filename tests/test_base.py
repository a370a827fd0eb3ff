"""Checks and names; intervals against closed forms and peers; files and runs that are whole or not there at all."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from repro.base import Runs, one_of, t_interval, whole, write_atomically

finite = st.floats(-1e6, 1e6)


@given(st.lists(finite, min_size=2, max_size=30))
def test_t_interval_agrees_with_scipy(values):
    found = t_interval(values)
    if np.std(values) > 1e-6 * (1 + np.abs(values).max()):
        reference = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-6, abs=1e-6)
    assert found.low <= found.estimate <= found.high


def test_t_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 5))
    covered = sum(low.low <= 3.0 <= low.high for low in map(t_interval, draws))
    assert stats.binomtest(covered, 4000, 0.95).pvalue > 0.001


def test_one_value_says_nothing_about_the_spread():
    found = t_interval([4.0])
    assert (found.estimate, found.low, found.high) == (4.0, -math.inf, math.inf)


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, math.nan], [1.0, math.inf]])
def test_bad_values_are_quoted(values):
    with pytest.raises(ValueError, match=r"finite number, got (shape|\[nan\]|\[inf\])"):
        t_interval(values)


# --- names ---


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("logistics", ["hinge", "logistic"], "'logistics'; did you mean 'logistic'? Known: hinge, logistic"),
        ("zzz", ["hinge", "logistic"], "'zzz'; known: hinge, logistic"),
        ("x", [], "'x'; known: none"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(name, known, expected):
    assert one_of("loss", "hinge", ["hinge"]) == "hinge"
    with pytest.raises(ValueError, match=re.escape(f"unknown loss {expected}")):
        one_of("loss", name, known)


@pytest.mark.parametrize("value", [3, np.int64(3), True + np.int8(2)])
def test_a_whole_number_comes_back_as_an_int(value):
    assert whole("n", value) == 3
    assert type(whole("n", value)) is int


@pytest.mark.parametrize("value", [0, 2.0, True, "3"])
def test_what_is_no_whole_number_is_quoted(value):
    with pytest.raises(ValueError, match=f"n must be a whole number of at least 1, got {value!r}"):
        whole("n", value)


# --- files ---


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "no space")

    monkeypatch.setattr("repro.base.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


MADE_WITH = {"name": "toy", "sizes": (2, 3), "rate": 0.1}


def test_a_finished_run_is_read_back_and_goes_by_its_settings(tmp_path):
    runs = Runs(tmp_path / "runs")
    assert runs.get("toy-0", MADE_WITH) is None
    runs.put("toy-0", MADE_WITH, [{"seed": np.int64(0), "loss": np.float32(0.5)}], seconds=1.5)
    assert runs.get("toy-0", MADE_WITH) == [{"seed": 0, "loss": 0.5}]
    with pytest.raises(ValueError, match=r"toy-0.json was made with other values of rate, sizes; use"):
        runs.get("toy-0", MADE_WITH | {"rate": 0.2, "sizes": [2]})


@pytest.mark.parametrize("content", ["", "[]", '{"rows": []}'])
def test_a_damaged_run_is_told_of_and_made_again(tmp_path, content):
    (tmp_path / "toy-0.json").write_text(content)
    with pytest.warns(UserWarning, match="toy-0.json is damaged: this run is made again"):
        assert Runs(tmp_path).get("toy-0", MADE_WITH) is None
