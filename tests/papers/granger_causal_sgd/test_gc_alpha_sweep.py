"""The grid of penalties, iterations and epochs: against single runs; shares of variance against sums by hand."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from repro.learn import perceptron
from repro.papers.granger_causal_sgd.alpha_sweep import DIGITS_ALPHAS, alpha_runs, main_effects
from repro.papers.granger_causal_sgd.fine_tuning import fine_tune
from repro.papers.granger_causal_sgd.moments import stream_moments
from repro.papers.granger_causal_sgd.pruning_loop import causal_pruning
from repro.papers.granger_causal_sgd.settings import Setting, Start, setting, start

SEEDS = [0, 3]
IRIS = Setting(
    "iris", "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, logging_epochs=2, tune_epochs=2, rate=0.02,
    batch_size=40,
)  # fmt: skip
ALPHAS = (1e-9, 1e-8, 1.0)


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


@pytest.fixture(scope="module")
def frame(begun: Start) -> pd.DataFrame:
    return alpha_runs(begun, ALPHAS, logging_epochs=(2, 3), n_iterations=2)


def test_the_grid_is_single_runs_put_together(begun: Start, frame: pd.DataFrame) -> None:
    assert len(frame) == 2 * 2 * 2 * 3 * 2
    for loss_delta, n_epochs in product(("cross_batch", "same_batch"), (2, 3)):
        run = causal_pruning(
            begun, alpha=ALPHAS, loss_delta=loss_delta, logging_epochs=n_epochs, n_iterations=2
        )
        chosen = frame[(frame["loss_delta"] == loss_delta) & (frame["logging_epochs"] == n_epochs)]
        chosen = chosen.reset_index(drop=True)
        pd.testing.assert_frame_equal(chosen[list(run.frame)], run.frame)
        tuned = fine_tune(begun, run.masks)
        assert chosen["train_loss"].to_numpy() == pytest.approx(tuned["train_loss"].to_numpy(), rel=1e-4)
        assert chosen["test_accuracy"].to_numpy() == pytest.approx(tuned["test_accuracy"].to_numpy())
        first, second = (torch.cat([kept.flatten(1) for kept in mask.values()], dim=1) for mask in run.masks)
        both, either = (first & second).sum(dim=1), (first | second).sum(dim=1)
        overlap = torch.where(either > 0, both / either, 1.0)
        assert chosen["overlap"].to_numpy()[6:] == pytest.approx(overlap.numpy(), rel=1e-6)
        assert chosen["overlap"][:6].isna().all()


def test_a_penalty_above_all_leaves_chance(frame: pd.DataFrame) -> None:
    gone = frame[frame["alpha"] == 1.0]
    assert (gone["sparsity"] == 1).all()
    assert (gone["collapsed"] == 2).all()
    assert gone["test_accuracy"].max() < 0.5
    mean = frame.groupby("alpha")["sparsity"].mean()
    assert mean.is_monotonic_increasing


def test_the_penalties_of_digits_span_what_the_screen_finds() -> None:
    begun = start(setting("digits"), [0], progress=False)
    moments = stream_moments(
        begun.ensemble, begun.datasets, learning_rate=1e-2, n_epochs=5, batch_size=64, seeds=1
    )
    for covariance in moments.covariance.values():
        shares = [(covariance.abs() <= alpha).double().mean() for alpha in DIGITS_ALPHAS]
        assert shares[0] < 0.3
        assert shares[-1] > 0.97


def _grid(outcome: object) -> pd.DataFrame:
    rows = list(product((1e-9, 1e-8, 1e-7), (1, 2), (2, 5), ("a", "b"), range(4)))
    grid = pd.DataFrame(rows, columns=["alpha", "iteration", "logging_epochs", "loss_delta", "seed"])
    return grid.assign(sparsity=outcome, test_accuracy=outcome)


def test_shares_of_an_additive_outcome() -> None:
    grid = _grid(0.0)
    # variances of the parts: (0, 1, 5) has 14/3, (0, 3) has 9/4, the rest none
    outcome = grid["alpha"].map({1e-9: 0.0, 1e-8: 1.0, 1e-7: 5.0}) + 3.0 * (grid["iteration"] == 2)
    shares = main_effects(_grid(outcome)).set_index(["outcome", "factor"])["share"]["sparsity"]
    total = 14 / 3 + 9 / 4
    assert shares["alpha"] == pytest.approx(14 / 3 / total)
    assert shares["iteration"] == pytest.approx(9 / 4 / total)
    assert shares[["logging_epochs", "loss_delta", "seed", "rest"]].to_numpy() == pytest.approx(0, abs=1e-12)


def test_shares_are_variances_of_level_means_and_chance_has_few() -> None:
    rng = np.random.default_rng(0)
    grid = _grid(rng.standard_normal(96))
    shares = main_effects(grid, outcomes=["sparsity"]).set_index("factor")
    for name in ("alpha", "iteration", "logging_epochs", "loss_delta", "seed"):
        means = grid.groupby(name)["sparsity"].mean().to_numpy()
        assert shares["share"][name] == pytest.approx(means.var() / grid["sparsity"].to_numpy().var())
        assert shares["levels"][name] == len(means)
        assert shares["share"][name] < 0.1  # degrees of freedom over 95: at most .03 is expected
    assert shares["share"].sum() == pytest.approx(1)


def test_a_factor_of_one_level_is_left_out_and_a_constant_has_no_shares() -> None:
    grid = _grid(1.0).assign(loss_delta="a")
    effects = main_effects(grid)
    assert "loss_delta" not in set(effects["factor"])
    assert effects["share"].isna().all()


def test_bad_input_is_named(begun: Start, frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="the grid is empty"):
        alpha_runs(begun, ALPHAS, logging_epochs=())
    with pytest.raises(ValueError, match="the grid is empty"):
        alpha_runs(begun, ALPHAS, loss_deltas=())
    with pytest.raises(ValueError, match="alpha must be above 0"):
        alpha_runs(begun, [0.0])
    with pytest.raises(ValueError, match="loss_delta is"):
        alpha_runs(begun, ALPHAS, loss_deltas=["both"])
    with pytest.raises(ValueError, match=r"lacks \['speed'\]"):
        main_effects(frame, outcomes=["speed"])
    with pytest.raises(ValueError, match="no factor has two levels"):
        main_effects(frame.head(1))
