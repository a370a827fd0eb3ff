"""Measures on tables made by hand, and of the authors' logs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.papers.ewn_inductive_bias import authors, measures
from repro.papers.ewn_inductive_bias.method import _METHODS


def table(*rows, score="length"):
    """From (method, seed, z, percent removed, accuracy)."""
    columns = ["method", "seed", "z", "pruned_percent", "accuracy"]
    return pd.DataFrame(rows, columns=columns).assign(score=score)


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
    names = ["n_active_hidden", "worst_cosine", "median_cosine", "across", "gap", "predicted_gap"]
    assert found[names].tolist() == pytest.approx([2, -0.8, -0.9, 1, 1, 0])
    assert found[["within", "within_wrong"]].tolist() == pytest.approx([0, 4 * np.log(2)], abs=1e-15)
    one = measures.relations(now.assign(active=[True, False, True])).iloc[0]
    assert np.isnan(one["within"])
    assert one["predicted_gap"] == pytest.approx(np.log(0.5))


def test_tightening_compares_the_same_nodes():
    length = {50.0: [1.0, 1.0, 1.0], 100.0: [1.0, 9.0, 1.0], 500.0: [1.0, 9.0, 1.0], 1000.0: [2.0, 9.0, 2.0]}
    both = pd.concat([nodes(z, own, [1.0, 1.0, 1.0]).assign(layer=0) for z, own in length.items()])
    both.loc[(both["z"] == 100.0) & (both["node"] == 0), "gradient_norm"] = np.exp(4.0)
    both.loc[(both["z"] == 1000.0) & (both["node"] == 0), "gradient_norm"] = np.exp(1.0)
    # node 1 stopped growing: its spread, however wide, is in neither
    assert measures.tightening(both).item() == pytest.approx(np.log(1 / 4))


def test_only_aligned_hidden_nodes_make_pairs():
    early = nodes(100.0, [2.0, 1.0, 3.0], [1.0, 1.0, 9.0])
    late = nodes(1000.0, [8.0, 2.0, 1.0], [1.0, 1.0, 9.0])
    assert measures.pairs(pd.concat([early, late]))[["n_correct", "n_pairs"]].to_numpy().tolist() == [[1, 1]]
    bent = pd.concat([early.assign(cosine=[-1.0, np.nan, -1.0]), late])
    assert np.isnan(measures.pairs(bent)["share"].item())


def later(r, c, method):
    """Two aligned nodes with constant gradient lengths c and 1, followed by Euler for a while."""
    w, g = np.array([r, 1.0]), np.array([c, 1.0])
    for _ in range(5):
        w = w + 1e-2 * g * (w**2 if method == "ewn" else 1.0)
    return w


@pytest.mark.parametrize("method", _METHODS)
@given(r=st.floats(0.2, 5), c=st.floats(0.2, 5))
def test_the_sign_of_the_change_of_a_ratio_is_predicted_by_the_right_law(method, r, c):
    two = np.array([r, 1.0]), np.array([c, 1.0]), later(r, c, method)
    balanced = abs(np.log(r * c)) <= 0.01 if method == "ewn" else abs(np.log(c / r)) <= 0.01
    assert measures._pair_predictions(*two, method) == ((0, 0) if balanced else (1, 1))
    # r = 2 and c = 0.8: EWN lets the longer node run away, plain flow would shrink the ratio
    two = np.array([2.0, 1.0]), np.array([0.8, 1.0]), later(2.0, 0.8, "ewn")
    assert measures._pair_predictions(*two, "plain") == (0, 1)


def test_the_smallest_bound_looks_at_positive_z_of_ewn_only():
    rates = {-1: 0.01, 1: 6, 2: 12}
    path = pd.concat([nodes(z, 1.0, 1.0).assign(log_rate=np.log(r)) for z, r in rates.items()])
    other = path.assign(method="plain", log_rate=-9.0)
    assert measures.smallest_bound(pd.concat([path, other])).to_dict() == pytest.approx({0: 3 / 9 * 12 / 4})


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=20), st.floats(0.01, 100))
def test_gini_is_the_mean_difference_of_all_pairs_and_has_no_unit(w, scale):
    w = np.array(w)
    slow = np.abs(w[:, None] - w[None]).sum() / (2 * w.size**2 * w.mean())
    assert measures._gini(w) == pytest.approx(slow, abs=1e-12)
    assert measures._gini(scale * w[::-1]) == pytest.approx(measures._gini(w), abs=1e-12)


def test_the_advantage_is_against_the_better_method_of_the_same_seed():
    first = [("plain", 0, 9.0, 90, 40.0), ("swn", 0, 9.0, 90, 50.0), ("ewn", 0, 9.0, 90, 70.0)]
    second = [("plain", 1, 9.0, 90, 60.0), ("swn", 1, 9.0, 90, 20.0), ("ewn", 1, 9.0, 90, 55.0)]
    lonely = ("ewn", 2, 9.0, 90, 99.0)  # no pair
    both = table(*first, *second, lonely)
    assert measures.pruning_advantage(both, 9.0).to_dict() == {0: 20.0, 1: -5.0}
    assert measures.pruning_advantage(both, 9.0, against=("ewn",), of="swn").to_dict() == {0: -20, 1: -35}
    before = [("plain", 3, 9.0, 0, 95.0), ("ewn", 3, 9.0, 0, 94.0), lonely]  # unpruned: 6 errors for 5
    assert measures.error_rise(table(*before), 9.0).to_dict() == pytest.approx({3: 20.0})


def test_best_of_scores_takes_the_highest_of_the_authors_scores():
    low = table(("plain", 0, 9.0, 50, 30.0), ("ewn", 0, 9.0, 50, 40.0))
    high = low.assign(score="since z = 10", accuracy=[80.0, 60.0])
    ignored = low.assign(score="with outgoing", accuracy=[99.0, 99.0])
    scored = measures._with_best_of_scores(pd.concat([low, high, ignored]))
    for score, advantage in (("best of scores", -20.0), ("length", 10.0)):
        assert measures.pruning_advantage(scored, 9.0, 50.0, ("plain",), score).to_dict() == {0: advantage}
    assert len(scored) == 6 + 2


def test_the_authors_logs_judged_by_our_measures():
    logged = authors.pruning()
    mnist, cifar = (logged[logged["dataset"] == name] for name in ("mnist", "cifar10"))
    # what the authors plot: means over seeds of the best of scores, per cent
    best = mnist[(mnist["score"] == "best of scores") & (mnist["pruned_percent"] == 90)]
    means = best.groupby(["z", "method"])["accuracy"].mean().unstack()[["plain", "swn", "ewn"]]
    expected = [[82.53, 73.89, 71.78], [79.87, 77.19, 83.75], [79.25, 75.87, 93.23]]
    np.testing.assert_allclose(means, expected, atol=0.01)
    assert sorted(measures.pruning_advantage(mnist, 300.0).round(1)) == [11.3, 11.4, 20.1]
    against_swn = measures.pruning_advantage(cifar, 300.0, 50.0, ("swn",), "best of scores")
    assert against_swn.mean() == pytest.approx(2.12, abs=0.01)
    assert measures.error_rise(mnist, 300.0).mean() == pytest.approx(12.8, abs=0.1)
