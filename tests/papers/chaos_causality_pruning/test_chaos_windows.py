"""Windows over training runs: counts, what a recorder keeps, and the authors' first exponents."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repro.papers.chaos_causality_pruning.descent import Examples, accuracy, descend, examples
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons, gaussian
from repro.papers.chaos_causality_pruning.tabular import authors_initial_weights, authors_split, load_table
from repro.papers.chaos_causality_pruning.windows import (
    WindowRecorder,
    Windows,
    largest_lag,
    paper_exponents,
)


@pytest.mark.parametrize(
    ("length", "n_rows", "expected"),
    [
        (160, 24_001, 166),
        (50, 2_401, 53),
        (50, 49, 0),
        (50, 50, 1),
        (50, 94, 1),
        (50, 95, 2),
        (50, 1_151, 25),
    ],
)
def test_number_of_windows(length, n_rows, expected):
    assert Windows(length).count(n_rows) == expected


@given(st.integers(10, 60), st.sampled_from([0, 0.1, 0.5, 0.9]), st.integers(0, 400))
def test_the_number_of_windows_is_that_of_those_that_fit(length, overlap, n_rows):
    windows = Windows(length, overlap)
    starts = range(0, max(n_rows, 1), windows.stride)
    assert windows.count(n_rows) == sum(start + length <= n_rows for start in starts)


def test_the_paper_goes_on_by_nine_tenths_of_a_window():
    assert [Windows(n).stride for n in (50, 160, 200, 250)] == [45, 144, 180, 225]


@given(st.integers(0, 200), st.integers(0, 30))
def test_the_largest_lag_leaves_enough_windows(n_windows, wanted):
    lag = largest_lag(n_windows, wanted)
    assert 0 <= lag <= wanted
    assert lag == 0 or n_windows >= 3 * lag + 2
    assert lag == wanted or n_windows < 3 * (lag + 1) + 2


@pytest.mark.parametrize(
    ("arguments", "words"), [((9,), "got 9"), ((50, 1.0), r"\[0, 1\); got 1.0"), ((50, -0.1), "got -0.1")]
)
def test_bad_windows_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Windows(*arguments)


def data(seed: int, n: int = 40) -> Examples:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4))
    return examples(x, (x[:, 0] > 0) + (x[:, 1] > 0), 3)


def logged(recorders: list[WindowRecorder]) -> tuple[np.ndarray, np.ndarray]:
    """Train three networks; return all weights (rows, R, P) and the test errors (rows, R)."""
    rows, errors = [], []

    def log(_: int, networks: Perceptrons) -> None:
        rows.append(networks.flat().numpy())
        errors.append(1 - accuracy(networks, data(1)))

    networks = gaussian((4, 6, 3), [0, 1, 2])
    descend(networks, data(0), learning_rate=1.0, n_epochs=6, after_update=[log, *recorders])
    return np.array(rows), np.array(errors)


def test_a_recorder_sees_the_windows_of_the_full_log():
    overlaps = (0.0, 0.1, 0.5)
    recorders = [WindowRecorder(Windows(30, o), {"test": data(1)}) for o in overlaps]
    rows, errors = logged(recorders)
    assert len(rows) == 241
    for recorder in recorders:
        windows, seen = recorder.windows, recorder.result()
        starts = range(0, 241 - 30 + 1, windows.stride)
        assert seen.exponents.shape == (3, 42, windows.count(241)) == (3, 42, len(starts))
        for t, start in enumerate(starts):
            cut = rows[start : start + 30].transpose(1, 2, 0).reshape(-1, 30)
            np.testing.assert_array_equal(seen.exponents[:, :, t].ravel(), paper_exponents(cut))
            np.testing.assert_array_equal(seen.errors["test"][:, t], errors[start + 29])
    assert np.ptp(errors) > 0.2


def test_a_recorder_of_some_networks_and_weights_sees_a_part_of_all():
    everything = WindowRecorder(Windows(30), {"test": data(1)})
    part = WindowRecorder(Windows(30), {"test": data(1)}, networks=np.array([2, 0]), weights=slice(24, 42, 2))
    logged([everything, part])
    whole, some = everything.result(), part.result()
    np.testing.assert_array_equal(some.exponents, whole.exponents[[2, 0], 24::2])
    np.testing.assert_array_equal(some.errors["test"], whole.errors["test"][[2, 0]])


@pytest.mark.parametrize("last", [29, 55, 56, 57])
def test_a_recorder_stops_after_its_last_update(last):
    everything = WindowRecorder(Windows(30), {})
    early = WindowRecorder(Windows(30), {}, last_update=last)
    logged([everything, early])
    n_windows = Windows(30).count(last + 1)
    assert n_windows == (1 if last < 56 else 2)
    np.testing.assert_array_equal(early.result().exponents, everything.result().exponents[:, :, :n_windows])


def test_a_recorder_holds_one_window_of_rows():
    shapes = []

    def widths(windows: np.ndarray) -> np.ndarray:
        shapes.append(windows.shape)
        return windows.max(1) - windows.min(1)

    recorder = WindowRecorder(Windows(30), {}, exponent=widths)
    rows, _ = logged([recorder])
    assert set(shapes) == {(3 * 42, 30)}
    held = [v for v in vars(recorder).values() if isinstance(v, np.ndarray)]
    assert max(array.size for array in held) == 30 * 3 * 42
    np.testing.assert_array_equal(recorder.result().exponents[:, :, 1], np.ptp(rows[27:57], axis=0))


def test_a_run_shorter_than_a_window_has_no_result():
    recorder = WindowRecorder(Windows(300), {"test": data(1)})
    logged([recorder])
    with pytest.raises(ValueError, match="one window of 300"):
        recorder.result()


def test_windows_at_rest_have_exponent_zero():
    ramp = np.arange(50.0)
    windows = np.stack([np.full(50, 0.3), 0.3 + 1e-7 * ramp, 0.01 * ramp])
    np.testing.assert_allclose(paper_exponents(windows), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "trial", "full", "early"),
    [
        ("iris", 1, (0.42532, 0.36555), (0.34210, 0.41759)),
        ("iris_3f", 2, (0.90988, 0.46044), (1.13796, 0.65734)),
    ],
)
def test_first_exponents_of_the_authors_networks(name, trial, full, early):
    split = authors_split(load_table(name))
    train = examples(split.x_train, split.y_train, 3)
    w1, b1, w2, b2 = (torch.tensor(t[None]) for t in authors_initial_weights(name, trial)[-1])
    recorders = [
        WindowRecorder(
            Windows(length), {}, weights=slice(0, 1), exponent=partial(paper_exponents, forward_steps=steps)
        )
        for length, steps in ((160, 20), (50, 3))
    ]
    networks = Perceptrons([w1, w2], [b1, b2])
    descend(networks, train, learning_rate=0.05, n_epochs=3, after_update=recorders)
    for recorder, expected in zip(recorders, (full, early), strict=True):
        np.testing.assert_allclose(recorder.result().exponents[0, 0, :2], expected, atol=1e-4)
