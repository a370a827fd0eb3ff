"""The authors' numbers against each other: what the tables say of sizes, masks and trials must agree."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from repro.papers.chaos_causality_pruning.published import (
    HYPER_PARAMETERS,
    MNIST_REMOVED,
    PRINTED_TRIALS,
    REMOVED,
    hyper_parameters,
    table_1,
    table_2,
    table_3,
    table_4,
)

SETS = ["cancer", "titanic", "banknote", "iris", "iris_3f", "vowel", "mnist"]


def n_weights(name: str) -> int:
    sizes = HYPER_PARAMETERS[name].sizes
    return sum(a * b for a, b in pairwise(sizes))


@pytest.mark.parametrize("table", [table_1, table_2, table_3, hyper_parameters])
def test_tables_have_one_row_a_set(table):
    assert table().index.tolist() == SETS


def test_flops_are_the_weights_left():
    table = table_1()
    assert table["flops_dense"].tolist() == [n_weights(name) for name in SETS]
    assert (table["flops_dense"] - table["non_causal"] == table["flops_ft"]).all()
    np.testing.assert_allclose(
        100 * table["non_causal"] / table["flops_dense"], table["pruned_percent"], atol=6e-3
    )
    early = table_2()
    share = 100 * (1 - early["flops_pt"] / table["flops_dense"])
    np.testing.assert_allclose(share, early["pruned_percent"], atol=6e-3)
    assert table.loc["mnist", "non_causal"] == MNIST_REMOVED


def test_the_two_tables_agree_on_ft_but_for_two_scores():
    one, two = table_1(), table_2()
    for column in ("flops_ft", "epochs_ft", "accuracy_ft"):
        assert (one[column] == two[column]).all()
    assert one.index[one["f1_ft"] != two["f1_ft"]].tolist() == ["cancer", "iris"]


def test_the_printed_rows_have_the_size_of_the_printed_trials_masks():
    one, two = table_1(), table_2()
    for name, trial in PRINTED_TRIALS.items():
        if name == "mnist":
            continue
        assert len(REMOVED[name, "ft"][trial - 1]) == one.loc[name, "non_causal"]
        same = len(REMOVED[name, "pt"][trial - 1]) == n_weights(name) - two.loc[name, "flops_pt"]
        # the printed rows of these two belong to masks that are not published
        assert same == (name not in ("banknote", "iris_3f"))


def test_masks_are_five_sets_of_weights_that_there_are():
    assert set(REMOVED) == {(n, v) for n in SETS[:5] for v in ("ft", "pt")}
    for (name, _), trials in REMOVED.items():
        assert len(trials) == 5
        assert all(0 <= weight < n_weights(name) for trial in trials for weight in trial)
    sizes = {key: [len(trial) for trial in trials] for key, trials in REMOVED.items()}
    assert sizes["cancer", "ft"] == [10, 6, 4, 4, 2]
    assert sizes["cancer", "pt"] == [7, 18, 13, 15, 1]
    assert sizes["titanic", "ft"] == [4, 1, 3, 4, 6]
    assert sizes["titanic", "pt"] == [27, 36, 38, 35, 29]
    assert sizes["banknote", "ft"] == [2, 3, 1, 4, 3]
    assert sizes["banknote", "pt"] == [9, 15, 15, 9, 15]
    assert sizes["iris", "ft"] == [2, 2, 2, 0, 2]
    assert sizes["iris_3f", "pt"] == [2, 0, 6, 3, 2]


def test_every_share_is_one_and_every_table_new():
    for table in (table_1(), table_2(), table_3()):
        shares = table.filter(regex="^(accuracy|f1)")
        assert shares.to_numpy().min() > 0.5
        assert shares.to_numpy().max() < 1
    changed = table_1()
    changed.loc["iris"] = 0
    assert table_1().loc["iris", "epochs_dense"] == 182


def test_logged_epochs_of_pt_are_table_2s():
    assert table_2()["logged_epochs"].tolist() == [p.epochs_pt for p in HYPER_PARAMETERS.values()]


def test_unknown_settings_are_missing_and_known_ones_numbers():
    frame = hyper_parameters()
    assert frame.loc["vowel", ["forward_steps_ft", "max_lag_ft", "max_lag_pt"]].isna().all()
    assert frame.loc["iris", ["window_ft", "max_lag_ft", "window_pt", "max_lag_pt"]].tolist() == [
        160,
        20,
        50,
        14,
    ]
    assert frame["max_lag_pt"].dtype == pd.Int64Dtype()
    assert frame["learning_rate"].sum() == pytest.approx(0.01 + 0.1 + 0.5 + 0.05 + 0.05 + 0.5 + 0.5)
    assert frame.loc["mnist", "sizes"] == (784, 50, 30, 10)


def test_spectra_are_given_for_five_models_of_three_layers():
    table = table_4()
    assert table.index.is_unique
    assert len(table) == 15
    assert table.loc[("pt", "30-10")].tolist() == [2.73, 3.87]
    assert table.loc["dense"].index.tolist() == ["784-50", "50-30", "30-10"]
