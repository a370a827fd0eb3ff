"""From tables of runs to one number a seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from repro.papers.chaos_causality_pruning import measures


def runs() -> pd.DataFrame:
    """Two tables, two seeds; the pruned network of table a is twice as fast, that of table b as fast."""
    rows = []
    for table, factor in (("a", 2), ("b", 1)):
        for seed in (0, 1):
            base = {"table": table, "seed": seed, "draw": 0, "reached": True, "n_weights": 10, "kept": 10}
            rows.append(base | {"variant": "dense", "arm": "dense", "epochs": 19.0, "test_accuracy": 0.9})
            pruned = {"variant": "ft", "arm": "noncausal", "kept": 8, "test_accuracy": 0.9 + 0.01 * seed}
            rows.append(base | pruned | {"epochs": 20 / factor - 1})
            for draw, epochs in enumerate((4.0, 19.0, 30.0, 9.0)):
                chance = {"variant": "ft", "arm": "random", "draw": draw, "kept": 8, "test_accuracy": 0.9}
                rows.append(base | chance | {"epochs": epochs, "reached": epochs < 30})
    return pd.DataFrame(rows).assign(macro_f1=0.5)


FT, DENSE = ("ft", "noncausal"), ("dense", "dense")


def test_differences_and_epochs_are_means_over_tables():
    assert measures.difference(runs(), "test_accuracy", FT, DENSE) == pytest.approx([0, 1])
    assert measures.removed_share(runs(), "ft") == pytest.approx([20, 20])
    # epochs count from one
    assert measures.log2_epochs(runs(), FT, DENSE) == pytest.approx([-0.5, -0.5])


def test_faster_random_share_counts_ties_half():
    # table a: LEGCNet takes 9 epochs: one random mask is faster, one ties; table b: 19: two faster, one ties
    assert measures.faster_random_share(runs(), "ft") == pytest.approx([(1.5 / 4 + 2.5 / 4) / 2] * 2)


def test_always_reached_needs_every_table():
    table = runs()
    table.loc[table.eval("arm == 'noncausal' and table == 'b' and seed == 1"), "reached"] = False
    assert measures.always_reached(table, FT) == [True, False]


def test_winning_tickets():
    # LEGCNet wins on table a only; of the random masks two of four are faster than dense and as accurate
    assert measures.winning_ticket_excess(runs(), "ft") == pytest.approx([(1 - 0.5 + 0 - 0.5) / 2] * 2)


def test_a_seed_that_is_missing_from_a_table_is_an_error():
    table = runs()
    with pytest.raises(ValueError, match="missing from some tables"):
        measures.difference(table[~((table["table"] == "b") & (table["seed"] == 1))], "macro_f1", FT, DENSE)


def decisions() -> pd.DataFrame:
    rows = []
    for seed, own in ((0, 0.8), (1, 0.6)):
        for series, share in (("own", own), ("stranger", 0.5)):
            base = {"table": "a", "seed": seed, "variant": "ft", "series": series, "part": "validation"}
            rows.append(base | {"rule": "paper", "causal": share})
            rows.append(base | {"rule": "honest", "causal": share / 10})
        rows.append(base | {"rule": "paper", "part": "test", "series": "own", "causal": 0.0})
    return pd.DataFrame(rows)


def test_causal_shares_are_the_papers_rule_on_validation_errors_or_the_honest_rule():
    assert measures.causal_excess(decisions(), "ft", "stranger") == pytest.approx([0.3, 0.1])
    assert measures.honest_share(decisions()) == pytest.approx([0.08, 0.06])


def test_deletion_rank_and_overlap():
    deletions = pd.DataFrame({"seed": [1, 0], "share_below": [0.2, 0.7]})
    deletions = deletions.assign(table="a", variant="ft", arm="noncausal")
    assert measures.deletion_rank(deletions, "ft", "noncausal") == [0.7, 0.2]
    overlaps = pd.DataFrame({"seed": [0, 1], "jaccard": [0.5, 1]})
    overlaps = overlaps.assign(table="a", pair="nudged", expected=0.25)
    assert measures.overlap_of(overlaps, "nudged", over_chance=True) == [0.25, 0.75]
    assert measures.overlap_of(overlaps, "nudged", over_chance=False) == [0.5, 1]


def test_ranking_excess_is_over_the_mean_of_the_random_masks():
    draws = {"arm": ["noncausal", "random", "random"], "spearman": [0.9, 0.5, 0.7]}
    table = pd.DataFrame(draws).assign(variant="ft", table="a", seed=0)
    assert measures.ranking_excess(table, "ft") == pytest.approx([0.3])


def test_overview_has_one_row_an_arm():
    table = measures.overview(runs())
    assert len(table) == 6
    assert np.isclose(table.loc[("a", "ft", "random"), "failures"], 25)
    assert np.isclose(table.loc[("b", "ft", "noncausal"), "removed"], 20)
