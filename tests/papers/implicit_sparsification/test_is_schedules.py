"""Schedules: their formulas, doses, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.papers.implicit_sparsification.schedules import (
    SCHEDULES,
    amplitude_for_dose,
    dose,
    followed_by_zeros,
    schedule,
)


def test_the_first_steps_of_each_shape() -> None:
    assert schedule("constant", 2.0, 3).tolist() == [2, 2, 2]
    assert schedule("harmonic", 6.0, 3).tolist() == [6, 3, 2]
    assert schedule("quadratic", 36.0, 3).tolist() == [36, 9, 4]
    assert schedule("geometric", 8.0, 3, ratio=0.5).tolist() == [4, 2, 1]


def test_holding_comes_before_the_decay() -> None:
    assert schedule("geometric", 8.0, 4, ratio=0.5, hold=2).tolist() == [8, 8, 4, 2]
    assert schedule("harmonic", 1.0, 2, hold=2).tolist() == [1, 1]


def test_the_geometric_sum_of_the_paper_is_nineteen() -> None:
    assert dose(schedule("geometric", 1.0, 2_000), 1.0)[-1] == pytest.approx(19, rel=1e-12)
    assert dose(schedule("quadratic", 1.0, 10**6), 1.0)[-1] == pytest.approx(np.pi**2 / 6, abs=2e-6)


@given(st.sampled_from(SCHEDULES), st.floats(0, 1e3), st.integers(1, 300), st.integers(0, 300))
def test_strengths_never_grow_and_never_turn_negative(name: str, amplitude: float, n: int, hold: int) -> None:
    strengths = schedule(name, amplitude, n, hold=min(hold, n))
    assert strengths.shape == (n,)
    assert strengths.dtype == np.float64
    assert (strengths >= 0).all()
    assert (np.diff(strengths) <= 0).all()
    assert strengths.max() <= amplitude


@given(st.sampled_from(SCHEDULES), st.floats(1e-3, 20), st.floats(1e-5, 1))
def test_the_amplitude_for_a_dose_spends_it(name: str, total: float, step_size: float) -> None:
    amplitude = amplitude_for_dose(name, total, 50, step_size)
    assert dose(schedule(name, amplitude, 50), step_size)[-1] == pytest.approx(total)


def test_a_smaller_step_takes_a_larger_amplitude_for_the_same_dose() -> None:
    coarse, fine = (amplitude_for_dose("geometric", 3.0, 1_000, step) for step in (1e-2, 1e-4))
    assert fine / coarse == pytest.approx(100)


def test_a_short_schedule_is_switched_off_afterwards() -> None:
    assert followed_by_zeros([[1.0, 2.0]], 4).tolist() == [[1, 2, 0, 0]]
    assert followed_by_zeros([1.0, 2.0], 2).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("geometrical", 1.0, 5), {}, "did you mean 'geometric'"),
        (("zzz", 1.0, 5), {}, "known: constant, harmonic"),
        (("constant", -0.1, 5), {}, r"0 or above; got -0\.1"),
        (("constant", float("inf"), 5), {}, "got inf"),
        (("constant", float("nan"), 5), {}, "got nan"),
        (("constant", 1.0, 0), {}, "at least 1, got 0"),
        (("geometric", 1.0, 5), {"ratio": 1.0}, r"got 1\.0"),
        (("geometric", 1.0, 5), {"hold": 6}, "between 0 and the 5 steps of training; got 6"),
        (("geometric", 1.0, 5), {"hold": -1}, "got -1"),
    ],
)
def test_bad_schedules(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(*arguments, **options)


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ([1.0, 2.0, 3.0], "has 3 steps, but training has 2"),
        ([0.5, -0.25], r"got -0\.25 at step 2"),
        ([float("nan")], "got nan at step 1"),
        (1.0, r"got shape \(\)"),
        ([], r"got shape \(0,\)"),
    ],
)
def test_bad_strengths(strengths: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        followed_by_zeros(strengths, 2)


def test_a_dose_needs_a_step() -> None:
    with pytest.raises(ValueError, match=r"above 0, got 0\.0"):
        amplitude_for_dose("constant", 1.0, 5, 0.0)
