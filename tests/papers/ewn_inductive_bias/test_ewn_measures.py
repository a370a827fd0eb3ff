"""Measures on tables made by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repro.papers.ewn_inductive_bias import measures

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


def test_retreat_compares_the_same_nodes():
    early = nodes(5.0, [1.0, 1, 1], [1.0, 1, 1], [-0.5, -0.7, -0.1])
    now = nodes(10.0, [1.0, 1, 1], [1.0, 1, 1], [-0.9, -0.8, 0.0]).assign(active=[True, True, False])
    assert measures.retreat(pd.concat([early, now]), now, 5.0).item() == pytest.approx(-0.85 + 0.6)


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
    before = [("plain", 3, 9.0, 0, 95.0), ("ewn", 3, 9.0, 0, 93.5), lonely]  # the price: unpruned
    assert measures.accuracy_price(table(*before), 9.0).to_dict() == {3: 1.5}


def test_best_of_scores_takes_the_highest_of_the_authors_scores():
    low = table(("plain", 0, 9.0, 50, 30.0), ("ewn", 0, 9.0, 50, 40.0))
    high = low.assign(score="since z = 10", accuracy=[80.0, 60.0])
    ignored = low.assign(score="with outgoing", accuracy=[99.0, 99.0])
    all_scores = pd.concat([low, high, ignored])
    best = measures.pruning_advantage(all_scores, 9.0, 50.0, ("plain",), best_of_scores=True)
    assert best.to_dict() == {0: -20.0}
    assert measures.pruning_advantage(all_scores, 9.0, 50.0, ("plain",)).to_dict() == {0: 10.0}
    listed = measures.accuracy_by_score(all_scores, 9.0, 50.0)
    assert listed.loc["with outgoing", "ewn"] == 99.0
    assert listed.loc["best of scores (on the test set)", "plain"] == 80.0
