"""From tables of runs to one number a seed."""

import numpy as np
import pandas as pd
import pytest

from repro.papers.chaos_causality_pruning import measures
from repro.papers.chaos_causality_pruning.measures import by_seed

FT, DENSE = {"variant": "ft", "arm": "noncausal"}, {"variant": "dense", "arm": "dense"}


def runs() -> pd.DataFrame:
    """Two tables, two seeds; the pruned network of table a is twice as fast, that of table b as fast."""
    rows = []
    for table, factor in (("a", 2), ("b", 1)):
        for seed in (1, 0):
            base = {"table": table, "seed": seed, "draw": 0, "reached": True, "removed": 0.0}
            rows.append(base | DENSE | {"epochs": 19.0, "test_accuracy": 0.9})
            pruned = {"removed": 0.2, "test_accuracy": 0.9 + 0.01 * seed, "epochs": 20 / factor - 1}
            rows.append(base | FT | pruned)
            for draw, epochs in enumerate((4.0, 19.0, 30.0, 9.0)):
                chance = {"variant": "ft", "arm": "random", "draw": draw, "removed": 0.2}
                rows.append(base | chance | {"epochs": epochs, "reached": epochs < 30, "test_accuracy": 0.9})
    return pd.DataFrame(rows).assign(macro_f1=0.5, budget_accuracy=0.8)


def test_one_number_a_seed_is_the_mean_over_draws_and_tables_and_what_it_exceeds_others_by():
    table = runs()
    assert by_seed(table, "test_accuracy", FT, less=DENSE).tolist() == pytest.approx([0, 0.01])
    assert by_seed(table, "epochs", FT).to_dict() == {0: 14, 1: 14}
    assert by_seed(table, "epochs", FT, less={"arm": "random"}).tolist() == [14 - 15.5] * 2
    assert by_seed(table, "reached", FT, less={"arm": "random"}).tolist() == [0.25, 0.25]
    # a table that has nothing for a seed is left out, and a seed for which none has
    nothing = table.assign(epochs=table["epochs"].mask((table["table"] == "b") & (table["seed"] == 1)))
    assert by_seed(nothing, "epochs", FT).tolist() == [14, 9]
    nothing = table.assign(epochs=table["epochs"].mask(table["seed"] == 1))
    assert by_seed(nothing, "epochs").index.tolist() == [0]
    with pytest.raises(ValueError, match="missing from some tables"):
        by_seed(table[~((table["table"] == "b") & (table["seed"] == 1))], "macro_f1", FT, less=DENSE)
    assert measures.overview(table).loc[("a", "ft", "random"), "failed, %"] == pytest.approx(25)


def test_a_random_mask_wins_a_ticket_or_is_faster_with_ties_half():
    table = runs()

    def share(column):
        return by_seed(measures.beside_random(table, "ft"), column)

    # LEGCNet wins on table a only; of the random masks two of four are faster than dense and as accurate
    assert share("excess").tolist() == [(1 - 0.5 + 0 - 0.5) / 2] * 2
    # table a: LEGCNet takes 9 epochs: one random mask is faster, one ties; table b: 19: two faster, one ties
    both = (1.5 / 4 + 2.5 / 4) / 2
    assert share("faster").tolist() == [both] * 2
    # masks that remove nothing have no place among random ones
    table.loc[table.eval("seed == 1 and variant == 'ft' and table == 'b'"), "removed"] = 0.0
    assert share("faster").tolist() == [both, 1.5 / 4]
    table.loc[table.eval("seed == 1 and variant == 'ft'"), "removed"] = 0.0
    assert share("faster").to_dict() == {0: both}


def test_causal_shares_are_those_of_a_rule_by_validation_errors():
    columns = {"series": ["own", "stranger", "own"], "causal": [0.8, 0.5, 0.08]}
    columns |= {"rule": ["paper", "paper", "honest"], "part": "validation", "variant": "ft", "seed": 0}
    decisions = pd.DataFrame(columns | {"table": "a"})
    decisions = pd.concat([decisions, decisions.assign(part="test", causal=0.0)])
    assert measures.causal(decisions, "ft", "honest").tolist() == [0.08]
    assert measures.causal(decisions, "ft", "paper", less="stranger").tolist() == pytest.approx([0.3])
    assert measures.causal(decisions, "ft", "paper", "stranger", less="own").tolist() == pytest.approx([-0.3])


def test_growth_is_halved_at_the_middle_epoch_of_each_table():
    rows = [("a", seed, epoch, (seed + 1) * epoch**0.5) for seed in (0, 1) for epoch in range(5)]
    rows += [("b", seed, epoch, (seed + 1) * epoch) for seed in (0, 1) for epoch in range(3)]
    grown = pd.DataFrame(rows, columns=["table", "seed", "epoch", "efolds"]).assign(direction="worst")
    halves = measures.efolds(pd.concat([grown, grown.assign(direction="random", efolds=0)]), "worst")
    expected = [[2**0.5, 2 - 2**0.5], [2 * 2**0.5, 4 - 2 * 2**0.5], [1, 1], [2, 2]]
    order = halves.sort_values(["table", "seed"])
    np.testing.assert_allclose(order[["first", "second"]], expected)
    np.testing.assert_allclose(by_seed(halves, "late"), [1 - 2**0.5, 2 - 2 * 2**0.5])
