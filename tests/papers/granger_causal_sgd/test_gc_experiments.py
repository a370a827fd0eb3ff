"""Experiments on small networks: rows against the traces and masks they come from, controls, arms, flatness."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise, permutations, product

import numpy as np
import pandas as pd
import pytest
import torch
from gc_by_hand import IRIS, N_WEIGHTS, SEEDS, WEIGHTS, iris
from torch import Tensor

from repro.learn import Dataset, Ensemble, evaluate, stacked
from repro.papers.granger_causal_sgd import curvature, experiments, settings, training
from repro.papers.granger_causal_sgd.experiments import _ARMS, _line_through_zero, _logged
from repro.papers.granger_causal_sgd.method import _causal_weights, causal_pruning
from repro.papers.granger_causal_sgd.settings import Setting, Start
from repro.papers.granger_causal_sgd.training import Trace, _derived_seed, _train_to_stops
from repro.prune import Mask, jaccard


@pytest.fixture(scope="module")
def longer() -> Start:
    """Logged for 180 steps: enough for tests of single steps."""
    return Start.draw(SEEDS, replace(IRIS, batch_size=10, logging_epochs=20))


# --- starts ----------------------------------------------------------------------------------------------------


def test_weights_have_the_variance_of_fan_out():
    chapter = Start.draw([0])
    still = Start.draw([0], replace(chapter.setting, rate=1e-12, pretrain_epochs=1)).ensemble.parameters
    assert float(still["1.weight"].detach().std()) == pytest.approx((2 / 128) ** 0.5, rel=0.03)
    assert float(still["3.weight"].detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert still["1.bias"].abs().max() < 1e-9


def test_lenet_takes_images_and_runs_in_every_experiment_that_the_chapter_gives_it(monkeypatch):
    def images(name, *, seed, images, train, validation, standardize):
        assert (name, images, validation, standardize) == ("fashion_mnist", True, 1000, (0.286, 0.353))
        x = torch.randn(train, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
        y = torch.arange(train) % 10
        return Dataset(x, y, *(x[:20], y[:20]) * 2, n_classes=10, name=name)

    monkeypatch.setattr(settings, "load", images)
    begun = Start.draw([5], Setting.lenet(64, 9))
    assert (begun.setting.batch_size, begun.setting.logging_rate, begun.setting.rate) == (512, 1e-3, 5e-4)
    tests = experiments.granger_runs(begun, full_loss=False).set_index(["target", "condition"])
    assert tests.loc[("same-batch", "real run"), "slope"] == pytest.approx(1, abs=0.1)
    masks = experiments.mask_overlaps(begun, [0.5])
    assert masks["sparsity"].between(0.4, 0.6).all()
    pruned = experiments.accuracy_runs(begun, [0.651], ["causal", "random"])
    assert pruned["arm"].tolist() == ["dense", "causal", "random"]
    assert pruned["test_accuracy"].between(0, 1).all()


# --- one step -------------------------------------------------------------------------------------------------


def test_smaller_rates_come_closer_to_the_identity_and_the_next_batch_does_not_obey_it(longer):
    frame = experiments.identity_runs(longer).set_index(["target", "learning_rate", "seed"]).sort_index()
    miss = (frame.loc["same-batch"]["slope"] - 1).abs().unstack("learning_rate")
    assert (miss.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
    assert miss[1e-3].max() < 0.01
    assert (frame.loc["same-batch", 1e-3]["r2"] > 0.999).all()
    assert (frame.loc["cross-batch", 1e-3]["r2"] < 0.1).all()
    both, alone = (frame.loc[f"momentum, squares {terms}"] for terms in ("and products", "alone"))
    assert (both["r2"] > 0.999).all(), "momentum needs the products"
    assert (alone["r2"] < 0.9).all()
    assert (both["slope"] - 1).abs().max() < 0.05


def test_real_steps_explain_their_own_batch_and_placebos_predict_the_next(longer):
    """Regression to the mean: a batch with a large loss has large gradients and a better successor."""
    frame = experiments.granger_runs(longer, n_permutations=300)
    table = frame.pivot(index="seed", columns=["target", "condition"])
    partial_r2, status = table["partial_r2"], table["status"]
    assert (partial_r2["same-batch", "real run"] > 0.95).all()
    for target in ("same-batch", "full-loss"):
        assert (partial_r2[target, "placebo"] == 0).all()
        assert (status[target, "placebo"] == "CONSTANT_EFFECT").all()
        assert (partial_r2[target, "steps shuffled"] < 0.3).all()
        assert table["lagged_r2"][target, "real run"].mean() < 0.1, "steps of the past say little"
    slope = table["slope"]["same-batch", "real run"]
    assert slope.to_numpy() == pytest.approx(np.ones(2), abs=0.05)
    assert (status["cross-batch"] == "OK").all(axis=None)
    assert (table["p_value"]["cross-batch", "placebo"] < 0.01).all()
    of_next = partial_r2["cross-batch"].mean()
    assert of_next["placebo"] > 2 * of_next["steps shuffled"]
    level = frame.set_index("seed")["level"].dropna()
    assert list(level.index) == list(SEEDS)
    assert level.between(0.02, 0.09).all(), "shuffled steps are significant as often as the level says"


@pytest.mark.parametrize("offset", [-5.0, 0.0, 100.0])
def test_slope_and_r2_are_those_of_a_line_through_zero(offset):
    x, y = torch.randn(2, 2, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = 3 * y + offset
    found = _line_through_zero(x, y)
    for i in range(2):
        (slope,), residual, *_ = np.linalg.lstsq(x[i, :, None].numpy(), y[i].numpy(), rcond=None)
        assert found["slope"][i] == pytest.approx(slope)
        assert found["r2"][i] == pytest.approx(1 - residual[0] / (12 * y[i].numpy().var()))
    assert [v.tolist() for v in _line_through_zero(x, x).values()] == [pytest.approx([1, 1])] * 2
    constant = _line_through_zero(x, torch.zeros_like(x))
    assert constant["slope"].tolist() == [0, 0]
    assert np.isnan(constant["r2"]).all()


# --- what the regression finds --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs() -> list[Trace]:
    """Two that differ in the order of batches."""
    return [_logged(iris(), seeds=[_derived_seed(seed, 0, number) for seed in SEEDS]) for number in (0, 1)]


def test_fits_are_made_on_one_run_and_judged_on_the_other(runs):
    fits = experiments.held_out_fits(iris(), 0.01).set_index(["target", "method", "seed"]).sort_index()
    assert len(fits) == len(SEEDS) * 2 * 4
    first, second = runs
    for i, seed in enumerate(SEEDS):
        x, y = first.squares(i).sum(dim=1).numpy(), first.loss_changes["same_batch"][i].numpy()
        slope, level = np.polyfit(x, y, 1)
        truth = second.loss_changes["same_batch"][i].numpy()
        error = ((truth - level - slope * second.squares(i).sum(dim=1).numpy()) ** 2).sum()
        wanted = 1 - error / ((truth - truth.mean()) ** 2).sum()
        assert fits["r2"]["same-batch", "one for all", seed] == pytest.approx(wanted, rel=1e-9)
    assert (fits["r2"]["same-batch", "one for all"] > 0.8).all()
    assert fits["r2"].xs("authors'", level="method").max() < 1e-3, "the authors' fit predicts the mean"


def test_nothing_is_predicted_where_nothing_moves(longer):
    """Steps so small that cross-batch changes are the batches' difference alone: its latter half cannot be known."""
    fits = experiments.held_out_fits(longer, 1e-9)
    assert fits[fits["target"] == "cross-batch"].groupby("method")["r2"].mean().max() < 0.5


def test_overlaps_are_those_of_the_masks_they_name(runs):
    grid = (0.2, 0.5, 0.8)
    overlaps = experiments.mask_overlaps(iris(), grid)
    overlaps = overlaps.set_index(["target", "seed", "wanted", "other"]).sort_index()
    others = (set(overlaps.loc[each].index.unique("other")) for each in ("cross-batch", "same-batch"))
    assert set.difference(*others) == {"steps never taken"}
    for target, (i, seed) in product(("same_batch", "cross_batch"), enumerate(SEEDS)):
        thresholds, masks = [], []
        for run in runs:
            covariance = (run.loss_changes[target][i] @ run.squares(i) / run.squares(i).shape[0]).abs()
            alphas = covariance.quantile(0.5).expand(2)[:, None]
            thresholds.append(covariance > alphas[0])
            masks.append(_causal_weights(run, run.loss_changes[target], alphas, SEEDS)[i, 0])
        rows = overlaps.loc[target.replace("_", "-"), seed, 0.5]
        moved = runs[0].squares(i).sum(dim=0)
        largest = moved >= moved.sort(descending=True).values[int(masks[0].sum()) - 1]  # as many as are kept
        for name, other in (
            ("threshold on the covariance", thresholds[0]),
            ("largest squared changes", largest),
            ("another log", masks[1]),
        ):
            assert rows["jaccard"][name] == jaccard(masks[0], other)
        beyond = (rows["jaccard"] - rows["chance"]) / (1 - rows["chance"])
        assert rows["beyond"].tolist() == pytest.approx(beyond.tolist())
    assert (overlaps["sparsity"] - overlaps.index.get_level_values("wanted")).abs().max() < 0.1


# --- the penalty as a dial ------------------------------------------------------------------------------------


def test_penalties_are_masks_of_one_log_and_networks_trained_alone():
    frame = experiments.alpha_runs(iris(), (1e-10, 1e-3))
    trace = _logged(iris(), drop_last=False)
    for (target, alpha), rows in frame.groupby(["target", "alpha"]):
        alphas = torch.full((2,), alpha, dtype=torch.float64)
        change = trace.loss_changes[target.replace("-", "_")]
        mask = Mask(trace.by_name(_causal_weights(trace, change, alphas, SEEDS)))
        assert list(rows["seed"]) == list(SEEDS)
        assert rows["sparsity"].to_numpy() == pytest.approx(1 - flat(mask).double().mean(dim=1).numpy())
        _, history = training._tune(iris(), mask, IRIS.tune_epochs)
        assert rows["test_accuracy"].to_numpy() == pytest.approx(history.last("test_accuracy"))
    assert (frame.loc[frame["alpha"] == 1e-3, "sparsity"] == 1).all()


def test_the_grid_is_single_loops_put_together():
    alphas, hold = (1e-9, 1.0), False
    frame = experiments.loop_runs(iris(), alphas, logging_epochs=(2, 3), n_iterations=2, hold=hold)
    groups = dict(iter(frame.groupby(["target", "logging_epochs", "alpha", "iteration"])))
    assert len(groups) == 2 * 2 * 2 * 2
    for (target, n_epochs), alpha in product((("cross_batch", 2), ("same_batch", 3)), alphas):
        masks = causal_pruning(
            iris().ensemble, iris().datasets, alpha, seeds=SEEDS, target=target, n_iterations=2, n_epochs=n_epochs,
            learning_rate=0.01, batch_size=20, hold=hold,
        )  # fmt: skip
        for iteration, mask in enumerate(masks, start=1):
            rows = groups[target.replace("_", "-"), n_epochs, alpha, iteration]
            assert list(rows["seed"]) == list(SEEDS)
            assert rows["sparsity"].to_numpy() == pytest.approx(1 - flat(mask).double().mean(dim=1).numpy())


# --- arms -----------------------------------------------------------------------------------------------------


def flat(entries: Mapping[str, Tensor]) -> Tensor:
    """``(S, p)``."""
    return torch.cat([each.flatten(1) for each in entries.values()], dim=1)


def scores(arm: str, trace: Trace, draw: int = 0) -> Tensor:
    draws = [torch.Generator().manual_seed(10 * i + draw) for i in range(len(SEEDS))]
    return torch.stack([_ARMS[arm](trace, i, iris().ensemble.member(i), draws[i]) for i in range(len(SEEDS))])


@pytest.fixture(scope="module")
def trace() -> Trace:
    return _logged(iris())


def test_scores_are_what_their_names_say(trace):
    for i in range(len(SEEDS)):
        x, same, cross = trace.squares(i), *(trace.loss_changes[t][i] for t in ("same_batch", "cross_batch"))
        network = iris().ensemble.member(i)
        weights = torch.cat([network.get_parameter(name).detach().flatten() for name in WEIGHTS])
        for arm, wanted in (
            ("causal", (same[:, None] * x).mean(dim=0)),
            ("causal, cross-batch", (cross[:, None] * x).mean(dim=0)),
            ("squared change alone", x.mean(dim=0)),
            ("magnitude", weights.double()),
        ):
            atol = 1e-4 * float(wanted.abs().max())
            torch.testing.assert_close(scores(arm, trace)[i], wanted.abs(), rtol=1e-4, atol=atol, msg=arm)
    causal, mixed = scores("causal", trace), scores("random within layers", trace)
    assert not torch.equal(causal, mixed)
    for columns in trace.layers.values():
        assert torch.equal(mixed[:, columns].sort(dim=1).values, causal[:, columns].sort(dim=1).values)


def test_permuted_scores_belong_to_a_permutation_of_the_rows():
    short = _logged(iris(), n_epochs=4, batch_size=None)
    for draw, i in product(range(5), range(2)):
        y, x = short.loss_changes["same_batch"][i], short.squares(i)
        found, orders = scores("shuffled loss changes", short, draw)[i], map(list, permutations(range(3)))
        assert sum(torch.allclose(found, (y[order] @ x).abs(), rtol=1e-9, atol=0) for order in orders) == 1


def test_masks_remove_the_exact_number_of_the_lowest_from_each_network_and_are_nested(trace):
    sparsities = (0.0, 0.3, 0.5, 0.9)
    masks = experiments._arm_masks(iris(), list(_ARMS), sparsities)
    alone = experiments._arm_masks(iris().first(1), ["random"], [0.5])
    assert torch.equal(flat(masks["random", 0.5])[:1], flat(alone["random", 0.5])), "the same in any company"
    for arm in _ARMS:
        kept = [flat(masks[arm, s]) for s in sparsities]
        for s, each in zip(sparsities, kept, strict=True):
            assert (~each).sum(dim=1).tolist() == [int(s * N_WEIGHTS)] * 2
        assert not any(bool((later & ~earlier).any()) for earlier, later in pairwise(kept))
        if arm in ("causal", "squared change alone", "magnitude"):
            for values, half in zip(scores(arm, trace), kept[2], strict=True):
                assert values[half].min() >= values[~half].max()


def test_accuracies_are_those_of_the_arms_trained_one_by_one_and_the_test_part_decides_nothing(monkeypatch):
    monkeypatch.setattr(experiments, "_TRAINED_TOGETHER", 10)
    frame = experiments.accuracy_runs(iris(), [0.5])
    assert len(frame) == 2 * (1 + len(_ARMS))
    masks = experiments._arm_masks(iris(), list(_ARMS), [0.5])
    for (arm, sparsity), rows in frame.groupby(["arm", "sparsity"]):
        _, history = training._tune(iris(), masks[arm, sparsity], IRIS.tune_epochs)
        for column in ("validation_accuracy", "test_accuracy"):
            assert rows[column].to_numpy() == pytest.approx(history.last(column), rel=1e-4)
    data = tuple(replace(d, y_test=2 - d.y_test) for d in iris().datasets)
    other = experiments.accuracy_runs(replace(iris(), datasets=data), [0.5])
    assert frame["validation_accuracy"].equals(other["validation_accuracy"])
    assert not frame["test_accuracy"].equals(other["test_accuracy"])


# --- flatness -------------------------------------------------------------------------------------------------

HOW = (("causal", "random"), (0.5, 0.9))
STOPS = {"target_loss": 0.25, "max_epochs": 8}  # and after 3 epochs, as the setting has it


@pytest.fixture(scope="module")
def flatness() -> pd.DataFrame:
    return experiments.flatness_runs(iris(), *HOW, **STOPS)


def test_each_row_is_a_network_at_one_stop_and_its_hessian(flatness):
    masks = experiments._arm_masks(iris(), *HOW)
    start, survivors = iris().times(5), Mask.joined([*masks.values()])
    stops, (x, y) = _train_to_stops(start, survivors, **STOPS), stacked(start.datasets, "train")
    for stopping, rows in flatness.groupby("stopping"):
        assert len(rows) == len(masks) * len(SEEDS)
        networks, reached = stops[stopping]
        assert rows["reached"].tolist() == reached.tolist()
        for i in (0, 2, 5, 9):
            network, row = networks.member(i), rows.iloc[i]
            for space in ("all", "kept"):
                kept = {name: survivors[name][i : i + 1] | (space == "all") for name in WEIGHTS}
                largest = curvature.largest_eigenvalues(Ensemble([network]), x[i : i + 1], y[i : i + 1], kept)
                assert row[space] == pytest.approx(float(largest), rel=2e-3)
            assert row["train_loss"] == pytest.approx(float(evaluate(network, x[i], y[i])[0]), rel=1e-5)
            assert (row["seed"], row["arm"], row["sparsity"]) == (SEEDS[i % 2], *list(masks)[i // 2])
    assert (flatness["kept"] <= flatness["all"] * (1 + 1e-3)).all(), "a part of a matrix"


def test_rescaling_layers_changes_curvature_and_not_proportional_noise(flatness, monkeypatch):
    def rescaled(*args, **kwargs):
        stops = _train_to_stops(*args, **kwargs)
        for networks, _ in stops.values():
            state = networks.state_dict()
            first, bias, second = list(state)[:3]
            state |= {first: 8 * state[first], bias: 8 * state[bias], second: state[second] / 8}
            networks.load_state_dict(state)
        return stops

    monkeypatch.setattr(experiments, "_train_to_stops", rescaled)
    other = experiments.flatness_runs(iris(), *HOW, **STOPS)
    assert other["train_loss"].tolist() == pytest.approx(flatness["train_loss"].tolist(), rel=1e-5)
    assert other["noise"].tolist() == pytest.approx(flatness["noise"].tolist(), rel=1e-3, abs=1e-6)
    assert (other["all"] / flatness["all"]).median() > 5
