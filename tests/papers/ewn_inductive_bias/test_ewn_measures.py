"""Measures on tables made by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.papers.ewn_inductive_bias import authors, measures

COLUMNS = ["method", "seed", "z", "pruned_percent", "accuracy"]


def table(*rows, score="length"):
    """From (method, seed, z, percent removed, accuracy)."""
    return pd.DataFrame(rows, columns=COLUMNS).assign(score=score)


def nodes(z, length, slope, cosine=(-1.0, -1.0, -1.0), method="ewn"):
    columns = {"z": z, "length": length, "gradient_norm": slope, "cosine": cosine, "layer": [0, 0, 1]}
    return pd.DataFrame({"seed": 0, "method": method, "node": range(3), **columns})


def test_active_nodes_grow_by_fifteen_per_cent_while_z_doubles():
    both = pd.concat([nodes(5.0, [1.0, 1, 1], [1.0, 1, 1]), nodes(10.0, [1.26, 1.1, 1.15], [1.0, 1, 1])])
    found = measures.active_nodes(both, 10.0)
    assert found["z"].unique().tolist() == [10.0]
    assert found["active"].tolist() == [True, False, True]


def test_relations_by_hand():
    # hidden products 1 and 1, output e times as much: within 0, across and gap 1
    now = nodes(10.0, [2.0, 0.5, 1.0], [0.5, 2.0, np.e], [-0.9, -1.0, -0.8]).assign(active=True)
    found = measures.relations(now).iloc[0]
    assert found["n_active_hidden"] == 2
    assert (found["worst_cosine"], found["median_cosine"]) == (-0.8, -0.9)
    assert found["within"] == pytest.approx(0, abs=1e-15)
    assert found["within_wrong"] == pytest.approx(4 * np.log(2))
    assert found["across"] == pytest.approx(1)
    assert found["gap"] == pytest.approx(1)
    assert found["predicted_gap"] == 0
    one = measures.relations(now.assign(active=[True, False, True])).iloc[0]
    assert np.isnan(one["within"])
    assert one["predicted_gap"] == pytest.approx(np.log(0.5))


def test_tightening_compares_the_same_nodes():
    length = {50.0: [1.0, 1.0, 1.0], 100.0: [1.0, 9.0, 1.0], 500.0: [1.0, 9.0, 1.0], 1000.0: [2.0, 9.0, 2.0]}
    table = pd.concat([nodes(z, own, [1.0, 1.0, 1.0]).assign(layer=0) for z, own in length.items()])
    table.loc[(table["z"] == 100.0) & (table["node"] == 0), "gradient_norm"] = np.exp(4.0)
    table.loc[(table["z"] == 1000.0) & (table["node"] == 0), "gradient_norm"] = np.exp(1.0)
    # node 1 stopped growing: its spread, however wide, is in neither
    assert measures.tightening(table).item() == pytest.approx(np.log(1 / 4))


def test_only_aligned_hidden_nodes_make_pairs():
    early = nodes(100.0, [2.0, 1.0, 3.0], [1.0, 1.0, 9.0])
    late = nodes(1000.0, [8.0, 2.0, 1.0], [1.0, 1.0, 9.0])
    assert measures.pairs(pd.concat([early, late]))[["n_correct", "n_pairs"]].to_numpy().tolist() == [[1, 1]]
    bent = pd.concat([early.assign(cosine=[-1.0, np.nan, -1.0]), late])
    assert np.isnan(measures.pairs(bent)["share"].item())


def test_the_smallest_bound_looks_at_positive_z_of_ewn_only():
    path = pd.concat(
        [nodes(z, 1.0, 1.0).assign(log_rate=np.log(r)) for z, r in ((-1, 0.01), (1, 6), (2, 12))]
    )
    other = path.assign(method="plain", log_rate=-9.0)
    assert measures.smallest_bound(pd.concat([path, other])).to_dict() == pytest.approx({0: 3 / 9 * 12 / 4})


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=20), st.floats(0.01, 100))
def test_gini_is_the_mean_difference_of_all_pairs_and_has_no_unit(w, scale):
    w = np.array(w)
    slow = np.abs(w[:, None] - w[None]).sum() / (2 * w.size**2 * w.mean())
    assert measures.gini(w) == pytest.approx(slow, abs=1e-12)
    assert measures.gini(scale * w[::-1]) == pytest.approx(measures.gini(w), abs=1e-12)


def test_the_advantage_is_against_the_better_method_of_the_same_seed():
    first = [("plain", 0, 9.0, 90, 40.0), ("swn", 0, 9.0, 90, 50.0), ("ewn", 0, 9.0, 90, 70.0)]
    second = [("plain", 1, 9.0, 90, 60.0), ("swn", 1, 9.0, 90, 20.0), ("ewn", 1, 9.0, 90, 55.0)]
    lonely = ("ewn", 2, 9.0, 90, 99.0)  # no pair
    found = measures.pruning_advantage(table(*first, *second, lonely), 9.0)
    assert found.to_dict() == {0: 20.0, 1: -5.0}
    before = [("plain", 3, 9.0, 0, 95.0), ("ewn", 3, 9.0, 0, 94.0), lonely]  # unpruned: 6 errors for 5
    assert measures.error_rise(table(*before), 9.0).to_dict() == pytest.approx({3: 20.0})


def test_best_of_scores_takes_the_highest_of_the_authors_scores():
    low = table(("plain", 0, 9.0, 50, 30.0), ("ewn", 0, 9.0, 50, 40.0))
    high = low.assign(score="since z = 10", accuracy=[80.0, 60.0])
    ignored = low.assign(score="with outgoing", accuracy=[99.0, 99.0])
    all_scores = pd.concat([low, high, ignored])
    scored = measures.with_best_of_scores(all_scores)
    best = measures.pruning_advantage(scored, 9.0, 50.0, ("plain",), "best of scores")
    assert best.to_dict() == {0: -20.0}
    assert measures.pruning_advantage(scored, 9.0, 50.0, ("plain",)).to_dict() == {0: 10.0}
    assert len(scored) == len(all_scores) + 2


def test_the_authors_logs_judged_by_our_measures():
    logged = authors.pruning()
    mnist, cifar = (
        measures.with_best_of_scores(logged[logged["dataset"] == n]) for n in ("mnist", "cifar10")
    )
    # what the authors plot: means over seeds of the best of scores, per cent
    best = mnist[(mnist["score"] == "best of scores") & (mnist["pruned_percent"] == 90)]
    means = best.groupby(["z", "method"])["accuracy"].mean().round(2).unstack()[["plain", "swn", "ewn"]]
    expected = [[82.53, 73.89, 71.78], [79.87, 77.19, 83.75], [79.25, 75.87, 93.23]]
    np.testing.assert_allclose(means, expected, atol=0.006)
    late = cifar[(cifar["score"] == "length") & (cifar["pruned_percent"] == 50)]
    means = late.groupby("method")["accuracy"].mean()[["plain", "swn", "ewn"]]
    np.testing.assert_allclose(means, [48.39, 30.65, 27.31], atol=0.006)
    assert sorted(measures.pruning_advantage(mnist, 300.0).round(1)) == [11.3, 11.4, 20.1]
    against_swn = measures.pruning_advantage(cifar, 300.0, 50.0, ("swn",), "best of scores")
    assert against_swn.mean() == pytest.approx(2.12, abs=0.01)
    assert measures.error_rise(mnist, 300.0).mean() == pytest.approx(12.8, abs=0.1)
