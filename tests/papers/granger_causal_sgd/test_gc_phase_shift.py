"""Phase shifts: known logistics come back, lines and noise are none, and knees by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from repro.papers.granger_causal_sgd.phase_shift import PhaseShift, fit_phase_shift, knee, knees, phase_shifts

S = np.array([0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
U = -np.log10(1 - S)


def _logistic(
    u: NDArray[np.float64], midpoint: float, width: float, high: float = 0.96, low: float = 0.1
) -> NDArray[np.float64]:
    return low + (high - low) / (1 + 81 ** ((u - midpoint) / width))


def _noisy(curve: NDArray[np.float64], sd: float, seed: int) -> PhaseShift:
    noise = np.random.default_rng(seed).normal(0, sd, len(S))
    return fit_phase_shift(S, np.clip(curve + noise, 0, 1))


@settings(max_examples=30, deadline=None)
@given(
    midpoint=st.floats(0.6, 1.6),
    width=st.floats(0.3, 1.5),
    high=st.floats(0.7, 0.99),
    low=st.floats(0.0, 0.3),
)
def test_a_logistic_without_noise_comes_back(midpoint: float, width: float, high: float, low: float) -> None:
    found = fit_phase_shift(S, _logistic(U, midpoint, width, high, low))
    assert found.midpoint == pytest.approx(midpoint, abs=1e-3)
    assert found.sparsity == pytest.approx(1 - 10**-midpoint, abs=1e-3)
    assert found.width == pytest.approx(width, abs=5e-3)
    assert (found.high, found.low) == pytest.approx((high, low), abs=5e-3)
    assert found.is_shift == (found.width <= 1)


def test_the_width_is_that_from_a_tenth_to_nine_tenths() -> None:
    found = fit_phase_shift(S, _logistic(U, 1.2, 0.6, 1.0, 0.0))
    edges = np.array([found.midpoint - found.width / 2, found.midpoint + found.width / 2])
    np.testing.assert_allclose(_logistic(edges, 1.2, 0.6, 1.0, 0.0), [0.9, 0.1], atol=1e-4)


@pytest.mark.parametrize("width", [0.3, 0.6, 0.9])
def test_midpoint_and_width_are_recovered_from_noisy_curves(width: float) -> None:
    found = [_noisy(_logistic(U, 1.2, width), 0.01, seed) for seed in range(20)]
    assert np.median([f.midpoint for f in found]) == pytest.approx(1.2, abs=0.02)
    assert np.median([f.width for f in found]) == pytest.approx(width, abs=0.06)
    assert np.mean([f.is_shift for f in found]) >= 0.95


def test_a_fall_wider_than_a_decade_is_no_shift() -> None:
    assert not any(_noisy(_logistic(U, 1.2, 1.5), 0.01, seed).is_shift for seed in range(20))


@pytest.mark.parametrize("seed", range(5))
def test_no_logistic_of_another_program_fits_better(seed: int) -> None:
    curve = np.clip(_logistic(U, 1.1, 0.7) + np.random.default_rng(seed).normal(0, 0.02, len(S)), 0, 1)
    (m, w, h, low), _ = curve_fit(
        _logistic, U, curve, p0=(1.0, 0.5, 0.9, 0.1), bounds=([0, 0.1, 0, 0], [2, 20, 1, 1])
    )
    rss = ((_logistic(U, m, w, h, low) - curve) ** 2).sum()
    n = len(S)
    assert fit_phase_shift(S, curve).aic_logistic <= n * np.log(rss / n) + 10 + 1e-6


def test_criteria_of_line_and_parabola_are_those_of_least_squares() -> None:
    curve = np.clip(_logistic(U, 1.2, 0.6) + np.random.default_rng(0).normal(0, 0.02, len(S)), 0, 1)
    found = fit_phase_shift(S, curve)
    for aic, degree in ((found.aic_line, 1), (found.aic_quadratic, 2)):
        design = np.stack([U**k for k in range(degree + 1)], axis=1)
        _, [rss], _, _ = np.linalg.lstsq(design, curve)
        assert aic == pytest.approx(len(S) * np.log(rss / len(S)) + 2 * (degree + 2))


def test_lines_are_no_shifts() -> None:
    rates = {
        (slope, sd): np.mean([_noisy(0.95 - slope * U, sd, seed).is_shift for seed in range(20)])
        for slope, sd in ((0.1, 0.003), (0.1, 0.01), (0.4, 0.003), (0.4, 0.03))
    }
    assert max(rates.values()) <= 0.1
    assert not fit_phase_shift(S, 0.95 - 0.3 * U).is_shift


def test_four_of_five_seeds_of_mere_noise_seldom_show_a_shift() -> None:
    found = np.array([_noisy(np.full(len(S), 0.9), 0.02, seed).is_shift for seed in range(30)])
    assert 0 < found.mean() < 0.5  # the criterion alone is generous
    assert (found.reshape(-1, 5).sum(axis=1) >= 4).mean() <= 0.1


def test_parabolas_are_no_shifts() -> None:
    assert not any(_noisy(0.95 - 0.15 * U**2, 0.005, seed).is_shift for seed in range(20))


def test_a_fall_between_two_points_has_the_least_width() -> None:
    found = fit_phase_shift(S, np.where(U > 1.1, 0.1, 0.95))
    assert 1.0 < found.midpoint < 1.31
    assert found.width == pytest.approx(np.diff(U).min() / 2, rel=0.01)
    assert found.is_shift


@pytest.mark.parametrize("curve", [np.full(8, 0.9), np.zeros(8), np.ones(8), 0.5 + 0.2 * U])
def test_a_curve_that_never_falls_has_no_midpoint(curve: NDArray[np.float64]) -> None:
    found = fit_phase_shift(S, curve)
    assert np.isnan([found.midpoint, found.sparsity, found.width]).all()
    assert not found.is_shift
    assert np.isfinite([found.aic_logistic, found.aic_line, found.aic_quadratic]).all()
    assert np.isnan(knee(S, curve))


@given(st.permutations(range(8)))
@settings(max_examples=10, deadline=None)
def test_the_order_of_points_does_not_matter(order: list[int]) -> None:
    curve = _logistic(U, 1.2, 0.6)
    assert fit_phase_shift(S[order], curve[order]) == fit_phase_shift(S, curve)


@pytest.mark.parametrize(
    ("margin", "expected"),
    # midpoint 1.2, width .4: 1.2, .8 and .4 decades
    [(0, 0.9), (1, 0.8), (2, 0.5), (3, 0.0), (4, 0.0)],
)
def test_the_knee_is_the_last_sparsity_before_the_fall(margin: float, expected: float) -> None:
    assert knee(S, _logistic(U, 1.2, 0.4), margin=margin) == expected


def test_there_is_a_knee_at_zero_where_everything_falls() -> None:
    assert knee(S[1:], _logistic(U[1:], 0.6, 1.0)) == 0.0


@pytest.mark.parametrize(
    ("s", "a", "told"),
    [
        (S[:6], U[:6] / 9, "at least 7 sparsities are needed, got 6"),
        (np.append(S, 1.0), np.append(U / 9, 0), r"sparsities lie in \[0, 1\); got 1.0"),
        (S - 0.1, U / 9, "got -0.1"),
        (S, U, r"accuracies lie in \[0, 1\]; got 1"),
        (S, np.where(U > 1, np.nan, 0.5), "got nan"),
        (np.append(S, 0.5), np.append(U / 9, 0), "sparsities must be different"),
        (S, U[:7] / 9, "as many accuracies as sparsities"),
    ],
)
def test_bad_curves(s: NDArray[np.float64], a: NDArray[np.float64], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        fit_phase_shift(s, a)


@pytest.mark.parametrize("margin", [-1, float("nan"), float("inf")])
def test_bad_margins(margin: float) -> None:
    with pytest.raises(ValueError, match="margin counts widths"):
        knee(S, _logistic(U, 1.2, 0.4), margin=margin)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rows = [(seed, "dense", 0.0, 0.95, 0.96, 0) for seed in (0, 1)]
    for seed, midpoint in ((0, 1.2), (1, 1.5)):
        for s, u in zip(S[1:], U[1:], strict=True):
            accuracy = float(_logistic(u, midpoint, 0.4))
            rows.append((seed, "early", s, accuracy, accuracy - 0.01, int(s > 0.97)))
            late = float(_logistic(u, midpoint + 0.25, 0.4))
            rows.append((seed, "late", s, late, late - 0.01, 0))
    columns = ["seed", "arm", "sparsity", "validation_accuracy", "test_accuracy", "collapsed"]
    return pd.DataFrame(rows, columns=columns)


def test_every_arm_and_seed_is_fitted_with_its_dense_network(frame: pd.DataFrame) -> None:
    shifts = phase_shifts(frame)
    assert sorted(zip(shifts["arm"], shifts["seed"], strict=True)) == [
        ("early", 0),
        ("early", 1),
        ("late", 0),
        ("late", 1),
    ]
    found = shifts.set_index(["arm", "seed"])
    rows = frame[(frame["seed"] == 1) & frame["arm"].isin(["dense", "early"])]
    alone = fit_phase_shift(rows["sparsity"], rows["test_accuracy"])
    assert found.loc[("early", 1), "midpoint"] == alone.midpoint
    assert found.loc[("early", 1), "midpoint_sparsity"] == alone.sparsity
    assert found.loc["early", "collapsed_from"].tolist() == [0.98, 0.98]
    assert found.loc["late", "collapsed_from"].isna().all()
    assert (
        phase_shifts(frame, value="validation_accuracy")["midpoint"].tolist() != shifts["midpoint"].tolist()
    )


def test_knees_are_chosen_on_validation_and_read_off_the_test_part(frame: pd.DataFrame) -> None:
    found = knees(frame).set_index(["arm", "seed"])
    assert found["knee"].to_dict() == {
        ("early", 0): 0.8,
        ("early", 1): 0.9,
        ("late", 0): 0.9,
        ("late", 1): 0.95,
    }
    expected = _logistic(U[3], 1.2, 0.4) - 0.01
    assert found.loc[("early", 0), "test_accuracy"] == pytest.approx(expected)
    assert found.loc[("early", 0), "difference"] == pytest.approx(100 * (expected - 0.96))
    worse = frame.assign(test_accuracy=0.5)
    assert knees(worse)["knee"].tolist() == knees(frame)["knee"].tolist()


def test_knees_need_the_dense_networks(frame: pd.DataFrame) -> None:
    pruned = frame[frame["arm"] != "dense"]
    with pytest.raises(ValueError, match="arm 'early', seed 0, has no dense network"):
        knees(pruned)
