"""What the regression finds: held-out fits, masks of two runs, masks that know less, and chance itself."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom
from torch import Tensor

from repro.learn import perceptron
from repro.papers.granger_causal_sgd.anatomy import held_out_fits, mask_overlaps, mask_stability
from repro.papers.granger_causal_sgd.phases import derived_seed
from repro.papers.granger_causal_sgd.settings import Setting, Start, start
from repro.papers.granger_causal_sgd.tg_lasso import tg_lasso
from repro.papers.granger_causal_sgd.trace import Trace, log_trace
from repro.prune.overlap import agreement, expected_jaccard, jaccard

IRIS = Setting(
    "iris", "iris", partial(perceptron, (4, 16, 3)), pretrain_epochs=3, rate=0.02, batch_size=20, logging_epochs=10
)  # fmt: skip
SEEDS = [0, 3, 5]
ALPHAS = [1e-12, 1e-10, 1e-9]


@pytest.fixture(scope="module")
def begun() -> Start:
    return start(IRIS, SEEDS, progress=False)


@pytest.fixture(scope="module")
def fits(begun: Start) -> pd.DataFrame:
    return held_out_fits(begun, ["same_batch", "full_loss"])


@pytest.fixture(scope="module")
def stability(begun: Start) -> pd.DataFrame:
    return mask_stability(begun, ALPHAS)


@pytest.fixture(scope="module")
def overlaps(begun: Start) -> pd.DataFrame:
    return mask_overlaps(begun, ALPHAS)


def run(begun: Start, number: int) -> Trace:
    """The run of that number, as the experiments log it."""
    return log_trace(
        begun.ensemble, begun.datasets, learning_rate=IRIS.logging_rate, n_epochs=IRIS.logging_epochs,
        batch_size=IRIS.batch_size, seeds=[derived_seed(seed, 0, number) for seed in SEEDS],
    )  # fmt: skip


def authors_mask(trace: Trace, member: int, target: str, alpha: float) -> Tensor:
    """One regression a layer, put one after the other."""
    y = trace.loss_changes[target][member]
    return torch.cat([tg_lasso(trace.squares(member, layer), y, alpha).kept for layer in trace.shapes])


def top(scores: Tensor, n: int) -> Tensor:
    marked = torch.zeros(len(scores), dtype=torch.bool)
    marked[scores.argsort(descending=True)[:n]] = True
    return marked


def indices(mask: Tensor) -> set[int]:
    return set(mask.nonzero().flatten().tolist())


# --- overlap ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_agreement_of_sets(pairs):
    a, b = torch.tensor(pairs).T
    found = agreement(a, b)
    for prefix, x, y in (("", indices(a), indices(b)), ("removed_", indices(~a), indices(~b))):
        assert found[f"{prefix}jaccard"] == (len(x & y) / len(x | y) if x | y else 1.0)
        assert found[f"{prefix}chance"] == expected_jaccard(len(x), len(y), len(pairs))


@given(st.integers(1, 60), st.data())
def test_chance_equals_the_sum_over_the_hypergeometric_distribution(n, data):
    k, m = data.draw(st.integers(0, n)), data.draw(st.integers(0, n))
    h = np.arange(min(k, m) + 1)
    wanted = 1.0 if k + m == 0 else float((hypergeom(n, k, m).pmf(h) * h / np.maximum(k + m - h, 1)).sum())
    assert expected_jaccard(k, m, n) == pytest.approx(wanted, rel=1e-9, abs=1e-15)


def test_chance_of_large_sets_and_of_all():
    n = 17_024
    # the mean of H is k m / n, and its spread is nothing beside it
    assert expected_jaccard(n // 2, n // 2, n) == pytest.approx(1 / 3, abs=1e-4)
    assert expected_jaccard(n, n, n) == 1
    assert expected_jaccard(n, n // 4, n) == pytest.approx(0.25)
    assert expected_jaccard(0, 5, n) == 0
    assert expected_jaccard(0, 0, n) == 1


def test_chance_is_what_random_sets_have():
    generator = torch.Generator().manual_seed(0)

    def draw(k: int) -> Tensor:
        return top(torch.rand(200, generator=generator), k)

    found = [jaccard(draw(120), draw(60)) for _ in range(2000)]
    spread = 4 * np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(expected_jaccard(120, 60, 200), abs=spread)


# --- held-out fits ------------------------------------------------------------------------------------------


def test_rows_of_fits(fits):
    assert len(fits) == len(SEEDS) * 2 * 4
    assert set(fits["method"]) == {"common", "tg_lasso", "lasso", "ridge"}
    assert not fits[["r2", "r2_about_zero"]].isna().any(axis=None)
    assert (fits["r2_about_zero"] >= fits["r2"] - 1e-12).all(), "sums about zero are no smaller"


def test_the_common_coefficient_is_fitted_on_one_run_and_judged_on_the_other(begun, fits):
    first, second = run(begun, 0), run(begun, 1)
    assert not torch.equal(first.batch_losses, second.batch_losses)
    common = fits[(fits["method"] == "common") & (fits["target"] == "same_batch")].set_index("seed")
    for i, seed in enumerate(SEEDS):
        x, y = first.energy()[i].numpy(), first.loss_changes["same_batch"][i].numpy()
        slope = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
        new, truth = second.energy()[i].numpy(), second.loss_changes["same_batch"][i].numpy()
        r2 = 1 - ((truth - slope * new) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
        assert common["r2"][seed] == pytest.approx(r2, rel=1e-9)


def test_one_coefficient_explains_same_batch_changes_and_the_authors_fit_predicts_zero(fits):
    same = fits[fits["target"] == "same_batch"].pivot(index="seed", columns="method", values="r2_about_zero")
    assert (same["common"] > 0.99).all()
    assert same["tg_lasso"].abs().max() < 1e-3


def test_nothing_is_predicted_where_nothing_moves():
    """Steps so small that cross-batch changes are the batches' difference alone."""
    still = start(replace(IRIS, logging_rate=1e-9), SEEDS, progress=False)
    found = held_out_fits(still, ["cross_batch"], alpha=1e-30)
    assert found.groupby("method")["r2"].mean().max() < 0.3
    assert found.loc[found["method"] == "tg_lasso", "r2_about_zero"].abs().max() < 1e-6


# --- two runs -----------------------------------------------------------------------------------------------


def test_stability_compares_the_masks_of_two_runs(begun, stability):
    first, second = run(begun, 0), run(begun, 1)
    energies = [trace.moments().mean_square for trace in (first, second)]
    for target in ("same_batch", "cross_batch"):
        for i, seed in enumerate(SEEDS):
            a, b = (authors_mask(trace, i, target, 1e-10) for trace in (first, second))
            where = (stability["seed"] == seed) & (stability["target"] == target)
            rows = stability[where & (stability["alpha"] == 1e-10)].set_index("mask")
            assert rows["jaccard"]["tg_lasso"] == jaccard(a, b)
            largest = [top(e[i], int(m.sum())) for e, m in zip(energies, (a, b), strict=True)]
            assert rows["jaccard"]["energy"] == jaccard(*largest)
            assert rows["sparsity"].tolist() == pytest.approx(
                [1 - float(a.sum() + b.sum()) / (2 * len(a))] * 2
            )


def test_stability_has_chance_between_zero_and_one_and_the_same_for_both_masks(stability):
    by_mask = stability.pivot(index=["seed", "target", "alpha"], columns="mask", values="chance")
    assert (by_mask["energy"] == by_mask["tg_lasso"]).all()
    assert by_mask["energy"].between(0, 1).all()


# --- masks that know less -----------------------------------------------------------------------------------


def test_overlaps_are_those_of_the_masks_they_name(begun, overlaps):
    trace = run(begun, 0)
    energy = trace.moments().mean_square
    products = {name: values.abs() for name, values in trace.moments().covariance.items()}
    for target in ("same_batch", "cross_batch"):
        for i, seed in enumerate(SEEDS):
            mask = authors_mask(trace, i, target, 1e-10)
            where = (overlaps["seed"] == seed) & (overlaps["target"] == target)
            rows = overlaps[where & (overlaps["alpha"] == 1e-10)].set_index("other")
            assert rows["jaccard"]["covariance"] == jaccard(mask, products[target][i] > 1e-10)
            assert rows["removed_jaccard"]["covariance"] == jaccard(~mask, products[target][i] <= 1e-10)
            assert rows["jaccard"]["energy"] == jaccard(mask, top(energy[i], int(mask.sum())))
            assert rows["jaccard"]["random"] == rows["chance"]["energy"]
            assert rows["removed_jaccard"]["random"] == rows["removed_chance"]["energy"]


def test_permuted_masks_depend_on_their_seed_and_the_others_do_not(begun, overlaps):
    again, other = mask_overlaps(begun, ALPHAS, seed=0), mask_overlaps(begun, ALPHAS, seed=1)
    pd.testing.assert_frame_equal(again, overlaps)
    permuted = overlaps["other"] == "permuted"
    assert not other[permuted].equals(overlaps[permuted])
    pd.testing.assert_frame_equal(other[~permuted], overlaps[~permuted])


def test_sparsity_grows_with_alpha(overlaps):
    curves = overlaps[overlaps["other"] == "energy"].pivot(
        index=["seed", "target"], columns="alpha", values="sparsity"
    )
    assert (curves.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert (curves[1e-9] > curves[1e-12] + 0.2).all()


def test_where_everything_is_removed_empty_sets_agree(begun):
    found = mask_overlaps(begun, 1e3, ["same_batch"])
    assert (found["sparsity"] == 1).all()
    assert (found[["jaccard", "chance", "removed_jaccard", "removed_chance"]] == 1).all(axis=None)


# --- bad input ----------------------------------------------------------------------------------------------


def test_bad_arguments_are_refused(begun):
    for alpha in (0.0, math.nan, [], [1e-10, -1.0]):
        with pytest.raises(ValueError, match="alpha"):
            mask_overlaps(begun, alpha)
        with pytest.raises(ValueError, match="alpha"):
            mask_stability(begun, alpha)
    with pytest.raises(ValueError, match="alpha"):
        held_out_fits(begun, alpha=0.0)
    for experiment in (
        partial(mask_overlaps, alphas=1e-10),
        partial(mask_stability, alphas=1e-10),
        held_out_fits,
    ):
        with pytest.raises(ValueError, match="same_batch, cross_batch, full_loss; got"):
            experiment(begun, targets=["placebo"])
