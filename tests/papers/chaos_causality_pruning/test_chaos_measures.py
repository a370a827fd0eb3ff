"""From tables of runs to one number a seed."""

from __future__ import annotations

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
    return pd.DataFrame(rows).assign(macro_f1=0.5, budget_accuracy=0.8)


FT, DENSE = ("ft", "noncausal"), ("dense", "dense")


def test_differences_and_epochs_are_means_over_tables():
    assert measures.difference(runs(), "test_accuracy", FT, DENSE) == pytest.approx([0, 1])
    assert measures.removed_share(runs(), "ft") == pytest.approx([20, 20])
    # epochs count from one
    assert measures.log2_epochs(runs(), FT, DENSE) == pytest.approx([-0.5, -0.5])


def test_failures_are_compared_in_points():
    table = runs()
    table.loc[table.eval("arm == 'noncausal' and table == 'b' and seed == 1"), "reached"] = False
    assert measures.failures(table, FT, DENSE) == [0, 50]


def test_a_random_mask_wins_a_ticket_or_is_faster_with_ties_half():
    # LEGCNet wins on table a only; of the random masks two of four are faster than dense and as accurate
    assert measures.winning_ticket_excess(runs(), "ft") == pytest.approx([(1 - 0.5 + 0 - 0.5) / 2] * 2)
    # table a: LEGCNet takes 9 epochs: one random mask is faster, one ties; table b: 19: two faster, one ties
    assert measures.faster_random_share(runs(), "ft") == pytest.approx([(1.5 / 4 + 2.5 / 4) / 2] * 2)


def test_a_seed_that_is_missing_from_a_table_is_an_error():
    table = runs()
    with pytest.raises(ValueError, match="missing from some tables"):
        measures.difference(table[~((table["table"] == "b") & (table["seed"] == 1))], "macro_f1", FT, DENSE)


def test_masks_that_remove_nothing_have_no_place_among_random_ones():
    table = runs()
    ours = table.eval("seed == 1 and variant == 'ft'")
    table.loc[ours & (table["table"] == "b"), "kept"] = 10
    assert measures.faster_random_share(table, "ft") == pytest.approx([(1.5 / 4 + 2.5 / 4) / 2, 1.5 / 4])
    table.loc[ours, "kept"] = 10
    assert measures.faster_random_share(table, "ft") == pytest.approx([(1.5 / 4 + 2.5 / 4) / 2])


def test_causal_shares_and_what_they_exceed_others_by():
    rows = [
        (0, "own", "paper", "validation", 0.8),
        (0, "stranger", "paper", "validation", 0.5),
        (1, "own", "paper", "validation", 0.6),
        (1, "stranger", "paper", "validation", 0.5),
        (0, "own", "paper", "test", 0.0),
        (1, "own", "paper", "test", 0.0),
        (0, "own", "honest", "validation", 0.08),
        (1, "own", "honest", "validation", 0.06),
        (1, "stranger", "honest", "validation", 0.05),
    ]
    decisions = pd.DataFrame(rows, columns=["seed", "series", "rule", "part", "causal"])
    decisions = decisions.assign(table="a", variant="ft", non_causal=1 - decisions["causal"])
    assert measures.causal_excess(decisions, "ft", "stranger", "paper") == pytest.approx([0.3, 0.1])
    assert measures.causal_excess(decisions, "ft", "own", "paper", own="stranger") == pytest.approx(
        [-0.3, -0.1]
    )
    assert measures.non_causal_excess(decisions, "ft", "stranger") == pytest.approx([-30, -10])
    assert measures.causal_share(decisions, "ft", "own", "honest") == pytest.approx([0.08, 0.06])


def test_growth_is_halved_at_the_middle_epoch_of_each_table():
    rows = [("a", seed, epoch, (seed + 1) * epoch**0.5) for seed in (0, 1) for epoch in range(5)]
    rows += [("b", seed, epoch, (seed + 1) * epoch) for seed in (0, 1) for epoch in range(3)]
    grown = pd.DataFrame(rows, columns=["table", "seed", "epoch", "efolds"]).assign(direction="worst")
    halves = measures.efolds(grown, "worst")
    assert halves.loc[("a", 1)].tolist() == pytest.approx([2 * 2**0.5, 4 - 2 * 2**0.5])
    assert halves.loc[("b", 0)].tolist() == [1, 1]
    assert measures.late_growth(grown, "worst") == pytest.approx([1 - 2**0.5, 2 - 2 * 2**0.5])


def test_deletions_overlaps_and_rankings():
    found = pd.DataFrame({"seed": [1, 0], "doublings": [0.2, 0.7], "jaccard": [1, 0.5]})
    found = found.assign(table="a", arm="noncausal", pair="nudged", expected=0.25)
    both = pd.concat([found, found.assign(arm="random", doublings=0.5)])
    assert measures.deletion(both, "noncausal", "doublings") == [0.7, 0.2]
    assert measures.deletion(both, "noncausal", "doublings", over_random=True) == pytest.approx([0.2, -0.3])
    assert measures.overlap_of(found, "nudged", over_chance=True) == [0.25, 0.75]
    assert measures.overlap_of(found, "nudged", over_chance=False) == [0.5, 1]
    draws = {"arm": ["noncausal", "random", "random"], "spearman": [0.9, 0.5, 0.7]}
    rankings = pd.DataFrame(draws).assign(variant="ft", table="a", seed=0)
    assert measures.ranking_excess(rankings, "ft") == pytest.approx([0.3])
    exponents = pd.DataFrame({"series": ["weights", "weights", "linear"], "exponent": [1.0, 2.0, 1.2]})
    assert measures.exponent_excess(exponents.assign(table="a", seed=0), "linear") == pytest.approx([0.3])
    assert measures.overview(runs()).loc[("a", "ft", "random"), "failures"] == pytest.approx(25)
