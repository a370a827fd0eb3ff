"""Observed runs, masks of equal size, and tables of experiments: plain runs, known answers, slow versions."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from repro.papers._pictures import where
from repro.papers.chaos_causality_pruning import experiments, plots, training
from repro.papers.chaos_causality_pruning.method import WindowRecorder, decide, paper_exponents
from repro.papers.chaos_causality_pruning.settings import Setting
from repro.papers.chaos_causality_pruning.training import _ARMS, _ROLES, Observed, _matched, _random_masks
from repro.prune import expected_jaccard

SHORT = replace(Setting.named("iris"), epochs=10, window=60)
LAYERS = np.array([0, 0, 0, 0, 1, 1, 1])


@pytest.fixture(scope="module")
def observed_wine() -> Observed:
    """Wine, three seeds, trained long enough for FT, with windows so short that tests take seconds."""
    short = {"epochs": 30, "early_epochs": 12, "window": 60, "max_lag": 5}
    return Observed.of(replace(Setting.named("wine"), **short), [0, 1, 2])


@pytest.fixture(scope="module")
def retrained(observed_wine):
    return experiments._retrain_arms(observed_wine, 2)


def test_a_seeds_values_are_the_same_bits_whatever_other_seeds_there_are(observed_wine, retrained):
    fewer = Observed.of(observed_wine.setting, [1, 2])
    for role, trained in product(_ROLES, (False, True)):
        of_all = observed_wine.networks(role, trained=trained).flat()[1:]
        assert torch.equal(fewer.networks(role, trained=trained).flat(), of_all)
    for variant in ("ft", "pt", "honest"):
        np.testing.assert_array_equal(fewer.series(variant), observed_wine.series(variant)[1:])
    for arm, keep in fewer.masks("ft", 3).items():
        assert (keep == observed_wine.masks("ft", 3)[arm][1:]).all(), arm
    for of_fewer, of_all in (
        (experiments._compare_decisions(fewer), experiments._compare_decisions(observed_wine)),
        (experiments._retrain_arms(fewer, 2)[0], retrained[0]),
        tuple(experiments.growth_of_nudges(SHORT, seeds) for seeds in ([2], [1, 2])),
        tuple(experiments.weights_and_surrogates({"wine": o}, 3) for o in (fewer, observed_wine)),
    ):
        same = of_all[of_all["seed"].isin(of_fewer["seed"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_fewer, same)


def test_what_is_observed_is_what_a_network_trained_alone_shows(observed_wine):
    one = observed_wine.setting
    parts, alone = one.start([2])[0], observed_wine.networks("nudged").pick([2])
    recorder = WindowRecorder(60)
    seen = (parts.validation, parts.test)
    wrong = lambda: [1 - alone.accuracy(part)[0] for part in seen]  # noqa: E731
    look = lambda: recorder(alone.flat(), wrong)  # noqa: E731
    alone.descend(parts.train, n_epochs=one.epochs, after_update=look, **one.how)
    # a last bit of a weight can change its rounding to six digits, and so an exponent
    assert np.abs(observed_wine.series("ft", "nudged")[2] - recorder.exponents[0]).mean() < 1e-4
    for part, errors in zip(("validation", "test"), recorder.errors, strict=True):
        np.testing.assert_allclose(observed_wine.errors("ft", part, "nudged")[2], errors)
    trained = observed_wine.networks("nudged", trained=True)
    torch.testing.assert_close(trained.flat()[2], alone.flat()[0], rtol=0, atol=1e-9)
    assert observed_wine.trained.accuracy(observed_wine.parts.train).min() > 0.9


def test_windows_are_those_of_their_variant_and_each_role_is_a_network_with_a_set_of_its_own(observed_wine):
    rows, early = 30 * 106 + 1, 12 * 106 + 1
    n_windows = {"ft": (rows - 60) // 54 + 1, "pt": (early - 50) // 45 + 1, "honest": (rows - 50) // 50 + 1}
    assert {v: observed_wine.errors(v).shape[1] for v in n_windows} == n_windows
    own, stranger, nudged = (observed_wine.networks(role).flat().numpy() for role in _ROLES)
    assert np.abs(own - stranger).max() > 0.1
    assert 1e-5 < np.abs(nudged / own - 1).mean() < 1e-3
    for role in _ROLES:
        y, x = observed_wine.errors("ft", role=role)[1], observed_wine.series("ft", role)[1]
        assert (observed_wine.pruned("ft", role)[1] == decide(y, x, max_lag=5).non_causal).all()


def test_as_many_go_of_each_layer_the_lowest_or_random_ones_that_were_tested():
    pruned = np.array([True, True, False, False, False, False, True])
    keep = _matched(np.array([4.0, 1.0, 3.0, 2.0, 0.5, 0.1, 0.9]), pruned, LAYERS)
    assert keep.tolist() == [True, False, True, False, True, False, True]
    keep = _matched(np.array([np.nan, 5.0, 6.0, np.nan, 1.0, np.nan, 1.0]), pruned, LAYERS)
    assert keep.tolist() == [True, False, False, True, False, True, True]
    pruned, tested = np.eye(7, dtype=bool)[[1, 5]].any(axis=0), np.arange(7) > 0
    drawn = _random_masks(pruned, LAYERS, tested, 300, np.random.default_rng(0))
    assert drawn[:, 0].all()
    assert np.allclose(1 - drawn.mean(axis=0)[1:], 1 / 3, atol=0.09)


def test_all_arms_of_a_network_remove_equally_many_and_each_what_it_says(observed_wine):
    found = observed_wine.masks("ft", 4)
    assert tuple(found) == _ARMS
    sizes = (~found["noncausal"]).sum(axis=2)
    assert sizes.sum() > 0, "the case should prune something"
    for arm, keep in found.items():
        assert keep.shape[1] == (4 if arm == "random" else 1)
        assert ((~keep).sum(axis=2) == sizes).all(), arm
    assert (found["noncausal"][:, 0] == ~np.array(observed_wine.pruned("ft"))).all()
    assert (found["noise"] != found["noncausal"]).any()
    after = observed_wine.networks("own", trained=True).flat().abs().numpy()
    layer_of = observed_wine.initial.layer_of
    for (arm, sign), i, layer in product((("magnitude after", 1), ("largest", -1)), range(3), (0, 1)):
        keep, values = found[arm][i, 0, layer_of == layer], sign * after[i, layer_of == layer]
        if not keep.all():
            assert values[~keep].max() <= values[keep].min()


def test_the_papers_exponent_ranks_noise_above_chaos():
    table = experiments.known_processes(50, seed=0)
    means = table[table["length"] == 200].groupby("process")["paper"].mean()
    assert means["white noise"] == pytest.approx(1.89, abs=0.05)
    assert means["random walk"] == pytest.approx(1.26, abs=0.05)
    assert means["chaos: logistic map"] == pytest.approx(np.log(2), abs=0.02)
    assert abs(means["sine"]) < 0.02
    assert means["exponential decay"] < 0


def test_windows_of_one_weight_and_surrogates_of_them_all(monkeypatch):
    monkeypatch.setattr(training, "_EVERY", 2)
    monkeypatch.setattr(training, "_SHOWN", 4)
    observed = Observed.of(SHORT, [0], ("ft",))
    path = observed.one_weight()
    assert len(path) == 10 * 90 + 1
    first, last = (observed.networks("own", trained=trained).flat()[0, 4].item() for trained in (False, True))
    assert path["weight"].iloc[[0, -1]].tolist() == [first, last]
    ends = path.dropna()
    assert ends.index.tolist() == list(range(59, 901, 54))
    window = path["weight"].to_numpy()[None, 54:114]
    assert ends.loc[113, "exponent"] == paper_exponents(window)[0]
    values = path["weight"].to_numpy()[None, 120:180]  # the third stretch of 60, the second that is looked at
    assert (observed.paths[0, 1, 4] == values).all()
    found = experiments.weights_and_surrogates({"iris": observed}, 1)
    found = found.set_index(["series", "window", "weight"])["exponent"]
    assert found.groupby("series").size().to_dict() == dict.fromkeys(experiments._SURROGATES, 8 * 42)
    assert found["weights", 1, 4] == paper_exponents(values)[0]
    apart = (found["weights"] - found["linear"]).abs()
    assert 0.01 < apart.median() < 0.5


def test_the_null_shares_of_the_rules(monkeypatch):
    """Shares that an independent implementation gave for the same shapes: .06 at (53, 14), .54 at (166, 20)."""
    monkeypatch.setattr(experiments, "_SHAPES", ((53, 14), (166, 20)))
    table = experiments.null_shares(80, seed=0)
    noise = table[table["process"] == "white noise"].groupby(["windows", "rule"])["non_causal"].mean()
    assert noise.loc[53, "paper"] == pytest.approx(0.06, abs=0.04)
    assert noise.loc[166, "paper"] == pytest.approx(0.54, abs=0.06)
    assert noise.loc[53, "f_test"] == pytest.approx(0.77, abs=0.06)
    assert noise.loc[53, "single_lag"] == pytest.approx(0.95, abs=0.02)
    assert noise.loc[53, "honest"] > 0.99


def test_our_statistics_agree_with_the_references_and_a_fault_would_show(monkeypatch):
    table = experiments.agreement(Observed.of(replace(SHORT, learning_rate=1.0), [0]))
    assert table["granger"].item() < 1e-7
    assert table["lyapunov"].item() < 1e-8
    y, x = np.random.default_rng(1).standard_normal((2, 40))
    assert np.isnan(experiments._granger_difference(np.ones(40), x, (1,)))
    right = experiments.granger_test
    monkeypatch.setattr(experiments, "granger_test", lambda y, x, lags: right(y, x + 1e-6 * y**2, lags))
    assert experiments._granger_difference(y, x, (1, 2)) > 1e-8


def test_every_counterpart_is_tested_against_the_networks_own_errors(observed_wine):
    table = experiments._compare_decisions(observed_wine)
    for variant, rule in product(("ft", "pt"), ("paper", "f_test")):
        chosen = where(table, variant=variant, rule=rule, part="validation")
        planted = ("planted", "planted, stranger") if variant == "ft" else ()
        assert chosen["series"].value_counts().to_dict() == dict.fromkeys((*plots._COUNTERPARTS, *planted), 3)
    testable = 1 - table["untestable"]
    assert (table["causal"].fillna(0) * testable + table["non_causal"]).round(9).equals(testable.round(9))
    assert set(where(table, rule="honest")["series"]) == {"own", "stranger", "planted", "planted, stranger"}
    chosen = where(table, variant="ft", rule="paper", part="validation", seed=2).set_index("series")["causal"]
    y, stranger = observed_wine.errors("ft")[2], observed_wine.series("ft", "stranger")[2]

    def share(*decisions):
        return sum(d.causal.sum() for d in decisions) / sum(d.testable.sum() for d in decisions)

    assert chosen["stranger"] == pytest.approx(share(decide(y, stranger, max_lag=5)))
    reverse = [decide(own, y[None], max_lag=5) for own in observed_wine.series("ft")[2]]
    assert chosen["reverse"] == pytest.approx(share(*reverse))


def test_a_planted_cause_is_what_it_says_and_is_told_from_a_strangers(observed_wine, monkeypatch):
    """Added to the error: the exponent of the window before, a hundredth of the variance of the error's changes."""
    y, exponents = observed_wine.errors("honest")[1], observed_wine.series("honest")[1, 7]
    added = observed_wine.planted("honest")[1, 7] - y
    assert added[0] == 0
    assert np.corrcoef(added[1:], exponents[:-1])[0, 1] == pytest.approx(1)
    assert added.std() == pytest.approx(0.1 * np.diff(y).std(), rel=0.05)
    monkeypatch.setattr(training, "_PLANTED", 0.3)  # this training is short
    judged = where(experiments._compare_decisions(observed_wine), rule="honest")
    shares = judged.groupby("series")["causal"].mean()
    assert shares["planted"] > shares["planted, stranger"] + 0.1
    assert shares["planted"] > shares["own"] + 0.2


def test_overlaps_compare_with_chance(observed_wine):
    table = experiments._overlaps(observed_wine)
    for pair, other in (("nudged", ("ft", "nudged")), ("late and early", ("pt", "own"))):
        a, b = observed_wine.pruned("ft")[2], observed_wine.pruned(*other)[2]
        expected = [np.nan, np.nan]
        if a.any() and b.any():
            expected = [(a & b).sum() / (a | b).sum(), expected_jaccard(a.sum(), b.sum(), len(a))]
        np.testing.assert_array_equal(where(table, pair=pair, seed=2)[["jaccard", "expected"]], [expected])


def test_retrained_arms_are_what_retraining_one_by_one_gives(observed_wine, retrained):
    runs, networks = retrained
    assert set(where(runs, variant="ft")["arm"]) == set(_ARMS)
    s, parts = observed_wine.setting, observed_wine.parts
    keep = observed_wine.masks("ft", 2)["causal"][:, 0]
    how = s.how | {"benchmark": s.benchmark, "budget": s.epochs, "cap": s.epochs + 50}
    alone, _ = observed_wine.networks("own").retrained(keep, parts.train, parts.test, **how)
    columns = ["epochs", "kept", "test_accuracy", "budget_accuracy"]
    np.testing.assert_allclose(where(runs, variant="ft", arm="causal")[columns], alone[columns])
    dense = where(runs, variant="dense", removed=0)
    assert dense["arm"].tolist() == ["dense", "stranger"] * 3
    own, stranger = networks.pick(dense.index[:2]).flat()
    assert not np.allclose(own, stranger)


def test_deleting_large_weights_hurts_more_than_deleting_small_ones(observed_wine):
    table = experiments._delete_without_retraining(observed_wine)
    below = table.groupby("arm")["share_below"].mean()
    assert below["largest"] > 0.7
    assert below["magnitude after"] < 0.3
    found = observed_wine.masks("ft", 200)
    trained, train = observed_wine.networks("own", trained=True), observed_wine.parts.train
    seed = int(np.argmin(found["noncausal"].mean(axis=(1, 2))))  # one of which FT removes something
    by_chance = np.array([trained.masked(found["random"][:, k]).loss(train)[seed] for k in range(200)])
    before, after = trained.loss(train)[seed], trained.masked(found["causal"][:, 0]).loss(train)[seed]
    rows = where(table, seed=seed).set_index("arm")
    below = np.mean((by_chance < after) + 0.5 * (by_chance == after))
    assert rows.loc["causal", "share_below"] == pytest.approx(below, abs=0.011)
    assert rows.loc["causal", "doublings"] == pytest.approx(np.log2(after / before))
    assert rows.loc["random", "doublings"] == pytest.approx(np.log2(by_chance / before).mean())
    nothing = found["noncausal"].all(axis=(1, 2))
    assert where(table, arm="causal")["doublings"].isna().tolist() == nothing.tolist()


def test_rankings_agree_perfectly_where_nothing_is_pruned(observed_wine, retrained, monkeypatch):
    runs, networks = retrained
    # thirteen features have 8,192 coalitions: five examples will do
    all_of_them = experiments._shapley_values
    few = lambda predict, background, x: all_of_them(predict, background, x[:5])  # noqa: E731
    monkeypatch.setattr(experiments, "_shapley_values", few)
    table = experiments._feature_rankings(observed_wine, runs, networks)
    assert table["spearman"].abs().max() <= 1 + 1e-12
    assert set(table["arm"]) == {"stranger", "noncausal", "random"}
    for run in runs.query("arm == 'noncausal' and removed == 0").itertuples():
        same = where(table, seed=run.seed, variant=run.variant, arm="noncausal")
        assert same["spearman"].item() == pytest.approx(1)
