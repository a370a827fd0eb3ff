"""The Granger test of whole steps: against plain least squares, with placebos and on unrelated series."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch

from repro.learn import perceptron
from repro.papers.granger_causal_sgd.granger_step import granger_runs, step_test
from repro.papers.granger_causal_sgd.settings import Setting, Start, start

IRIS = Setting(
    "iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, rate=0.02, batch_size=10, logging_epochs=20
)  # fmt: skip
SEEDS = [0, 3, 4]


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


@pytest.fixture(scope="module")
def frame(begun: Start) -> pd.DataFrame:
    return granger_runs(begun)


def _series(n_pairs: int, n_rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, n_pairs, n_rows, generator=generator, dtype=torch.float64)
    return x, y


@pytest.mark.parametrize("n_lags", [1, 2, 4])
def test_it_is_the_f_test_of_plain_least_squares_with_the_step_of_the_same_row(n_lags: int) -> None:
    x, y = _series(3, 40)
    y = y + 0.4 * x
    found = step_test(x, y, n_lags)
    for i in range(3):
        a, b = x[i].numpy(), y[i].numpy()
        rows = range(n_lags, 40)
        past = np.array([[1, *(b[t - j] for j in range(1, n_lags + 1))] for t in rows])
        steps = np.array([[a[t - j] for j in range(n_lags)] for t in rows])
        restricted, full = sm.OLS(b[n_lags:], past), sm.OLS(b[n_lags:], np.hstack([past, steps]))
        f, p_value, _ = full.fit().compare_f_test(restricted.fit())
        assert found.f[i] == pytest.approx(f)
        assert found.p_value[i] == pytest.approx(p_value)
        assert found.partial_r2[i] == pytest.approx(1 - full.fit().ssr / restricted.fit().ssr)
        assert found.status[i] == "OK"


def test_the_newest_step_counts_and_later_ones_do_not() -> None:
    x, y = _series(1, 60)
    same = x + 0.01 * y
    later = x.roll(-1, dims=1) + 0.01 * y  # the loss change foretells the step
    assert step_test(x, same).partial_r2[0] > 0.99
    assert step_test(x, later).partial_r2[0] < 0.3


def test_scale_and_offset_of_either_series_do_not_matter() -> None:
    x, y = _series(2, 50)
    np.testing.assert_allclose(step_test(1e-9 * x + 1e-9, 7 * y - 3).f, step_test(x, y).f, rtol=1e-6)


def test_unrelated_series_are_rejected_as_often_as_the_level_says() -> None:
    x, y = _series(4000, 80)
    found = step_test(x**2, y)
    assert np.mean(found.p_value < 0.05) == pytest.approx(0.05, abs=0.015)
    # partial R2 of noise is Beta(q/2, (n - 2q - 1)/2), with mean q/(n - q - 1)
    assert found.partial_r2.mean() == pytest.approx(2 / (78 - 2 - 1), rel=0.05)


def test_constant_loss_changes_leave_nothing_to_explain_and_say_so() -> None:
    x, y = _series(3, 50)
    y[1] = 0.0
    x[2] = 1.0
    found = step_test(x, y)
    assert found.status == ["OK", "CONSTANT_EFFECT", "CONSTANT_CAUSE"]
    assert found.partial_r2[1] == 0
    assert np.isnan(found.partial_r2[2])
    assert np.isnan(found.f[1:]).all()
    assert np.isnan(found.p_value[1:]).all()


def test_real_steps_explain_their_own_batch_and_placebos_cannot(frame: pd.DataFrame) -> None:
    table = frame.pivot(index="seed", columns=["target", "condition"])
    partial_r2, status = table["partial_r2"], table["status"]
    assert (partial_r2["same_batch", "real"] > 0.95).all()
    for target in ("same_batch", "full_loss"):
        assert (partial_r2[target, "placebo"] == 0).all()
        assert (status[target, "placebo"] == "CONSTANT_EFFECT").all()
        assert (partial_r2[target, "permuted"] < 0.3).all()
    assert (status["cross_batch"] == "OK").all(axis=None)


def test_a_placebo_predicts_the_loss_of_the_next_batch(frame: pd.DataFrame) -> None:
    """Regression to the mean: a batch with a large loss has large gradients and a better successor."""
    cross = frame[frame["target"] == "cross_batch"].pivot(index="seed", columns="condition")
    assert (cross["p_value"]["placebo"] < 0.01).all()
    assert (cross["partial_r2"]["placebo"] > 2 * cross["partial_r2"]["permuted"]).all()


def test_the_table_names_its_rows_and_the_seed_moves_permutations_only(
    begun: Start, frame: pd.DataFrame
) -> None:
    assert len(frame) == len(SEEDS) * 3 * 3
    assert not frame.duplicated(["seed", "target", "condition"]).any()
    assert set(frame["n_rows"]) == {20 * 9 - 1}
    other = granger_runs(begun, seed=1)
    moved = ~np.isclose(other["f"], frame["f"], equal_nan=True)
    assert set(frame[moved]["condition"]) == {"permuted"}


def test_bad_input_is_named() -> None:
    x, y = _series(2, 20)
    with pytest.raises(ValueError, match=r"got \(2, 20\) and \(2, 19\)"):
        step_test(x, y[:, 1:])
    with pytest.raises(ValueError, match="2 lags need at least 8 rows, got 7"):
        step_test(x[:, :7], y[:, :7])
    with pytest.raises(ValueError, match="lag"):
        step_test(x, y, 0)
