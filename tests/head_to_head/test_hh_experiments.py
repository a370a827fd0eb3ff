"""The comparison: pairs, controls, divergence, data of one's own; and the numbers made of its tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from repro.head_to_head import METHODS, TASKS, Method, compare, measures, nested, own_data, plots
from repro.head_to_head.experiments import Run, _shuffled, _walk, methods_table, pruned, tuning
from repro.learn import TrainingDivergedError
from repro.prune import Mask

TASK = replace(TASKS["digits"], n_epochs=4, sparsities=(0.0, 0.5, 0.9, 0.95))


@pytest.fixture(scope="module")
def compared():
    chosen = ("magnitude", "L1", "random", "SynFlow")
    return measures.together(
        [pruned(name, TASK, (0, 1), shuffled=name == "magnitude", flat_at=(0.9,)) for name in chosen]
    )


def test_a_row_for_each_method_seed_and_sparsity(compared):
    plain = compared.accuracy[~compared.accuracy["shuffled"]]
    assert plain.groupby(["method", "sparsity"])["seed"].agg(set).eq({0, 1}).all()
    assert plain["test_accuracy"].between(0, 1).all()
    assert plain.query("sparsity == 0.9")["noise"].notna().all()
    assert plain.query("sparsity == 0.5")["noise"].isna().all()


def test_a_perceptron_multiplies_as_often_as_it_has_weights_left(compared):
    left, whole = compared.costs.loc["magnitude", ["left", "of"]]
    assert whole == 64 * 128 + 128 * 64 + 64 * 10
    assert left == pytest.approx(0.05 * whole, abs=1)


def test_a_seed_is_the_same_whoever_runs_beside_it(compared):
    alone = pruned("L1", TASK, (1,)).accuracy
    both = compared.accuracy.query("method == 'L1' and seed == 1")
    np.testing.assert_array_equal(alone["test_accuracy"], both["test_accuracy"])


def test_shuffled_masks_keep_as_many_weights_in_each_layer():
    mask = Mask({"a": torch.rand(2, 8, 9) > 0.7, "b": torch.rand(2, 40) > 0.2})
    other = _shuffled(mask, (5, 6))
    assert other != mask
    for name in mask:
        assert torch.equal(mask[name].flatten(1).sum(dim=1), other[name].flatten(1).sum(dim=1))
    assert _shuffled(mask, (5, 6)) == other


def test_a_choice_at_which_all_diverge_is_an_error_and_one_at_which_some_do_is_none():
    with pytest.raises(TrainingDivergedError):
        pruned("EWN", TASK, (0, 1), tried=(1e4, 1.0))
    scores = {"a": torch.tensor([[0.3, torch.nan, 0.2], [0.1, 0.2, 0.3]])}
    assert nested(scores, (0.34,))[0.34]["a"].tolist() == [[True, False, True], [False, True, True]]


def test_tuning_takes_the_best_choice_and_says_where_the_grid_ends(monkeypatch):
    monkeypatch.setitem(TASKS, "digits", replace(TASKS["digits"], n_epochs=4))
    method = Method("magnitude", METHODS["magnitude"].prune, (0.0,))
    object.__setattr__(method, "knobs", (0.0,) * 8)  # four rates, to be quick
    (row,) = tuning([method], "digits", (0,)).itertuples()

    def validated(rate):
        table = pruned(method, "digits", (0,), tried=(rate, 0.0)).accuracy
        return table[table["sparsity"].isin((0.9, 0.95, 0.99))]["validation_accuracy"].mean()

    assert row.rate == max((0.05, 0.1, 0.2, 0.4), key=validated)
    assert ("rate" in row.edge) == (row.rate in (0.05, 0.4))


@pytest.mark.parametrize(
    ("knobs", "best", "edge"),
    [((0.0,), (0.2, 0.0), ""), ((1.0, 2.0), (0.1, 2.0), ""), ((1.0, 2.0), (6.4, 1.0), "rate knob")],
)
def test_long_tasks_are_tuned_by_a_walk_that_says_where_it_was_cut_short(knobs, best, edge):
    tried = []

    def score(method, one):
        """A hill, steep in the rate."""
        tried.append(one)
        of_knob = abs(np.log2(one[1] / best[1])) if best[1] else 0.0
        return -10 * abs(np.log2(one[0] / best[0])) - of_knob

    task = replace(TASKS["digits"], first_rate=0.05)
    rate, knob, _, found = _walk(Method("made", METHODS["magnitude"].prune, knobs), task, score)
    assert len(tried) == len(set(tried)) <= 8
    assert found == edge
    if not edge:
        assert (rate, knob) == pytest.approx(best)


def test_a_walk_begins_at_the_last_choice():
    tried = []
    _walk(METHODS["L1"], TASKS["mnist"], lambda _, one: tried.append(one) or 0.0)
    known = pd.read_csv(plots.__file__.replace("plots.py", "tuned.csv")).set_index(["task", "method"])
    assert tried[0] == tuple(known.loc[("mnist", "L1"), ["rate", "knob"]]) != (0.1, METHODS["L1"].knobs[0])


def test_every_method_was_tuned_on_both_small_sets():
    known = pd.read_csv(plots.__file__.replace("plots.py", "tuned.csv"))
    for task in ("digits", "mnist5k"):
        assert set(known[known["task"] == task]["method"]) == set(METHODS)
    for row in known[known["task"].isin(["digits", "mnist5k"])].itertuples():
        assert pytest.approx((row.rate, row.knob)) in METHODS[row.method].choices
    assert list(methods_table().index) == list(METHODS)


# --- measures ---------------------------------------------------------------------------------------------------------


def _run(label, mask):
    rows = {"seed": [0, 1], "sparsity": 0.95, "test_accuracy": (0.5, 0.6), "shuffled": False, "method": label}
    return Run(pd.DataFrame(rows), mask, (1.0, 2.0), (40.0, 80))


def test_overlap_is_one_for_equal_masks_and_zero_by_chance():
    first = Mask({"a": torch.rand(2, 300, 300) < 0.05, "b": torch.rand(2, 5000) < 0.5})
    far = Mask({"a": torch.rand(2, 300, 300) < 0.1, "b": torch.rand(2, 5000) < 0.3})
    found = measures.together([_run("x", first), _run("same", first), _run("far", far)]).overlap
    np.testing.assert_allclose(measures.overlap(found, "x", "same"), 1)
    np.testing.assert_allclose(measures.overlap(found, "far", "x"), 0, atol=0.05)


def test_gain_pairs_seeds_and_is_empty_for_what_was_not_run(compared):
    points = compared.accuracy.query("sparsity == 0.95 and not shuffled")
    points = points.pivot(index="seed", columns="method", values="test_accuracy")
    found = measures.gain(compared.accuracy, "L1", "magnitude", 0.95)
    np.testing.assert_allclose(found, 100 * (points["L1"] - points["magnitude"]))
    assert len(measures.gain(compared.accuracy, "L1", "PILoT", 0.95)) == 0
    assert len(measures.beyond_its_layers(compared.accuracy, "magnitude", 0.95)) == 2
    assert len(measures.beyond_its_layers(compared.accuracy, "L1", 0.95)) == 0


def test_flatness_is_judged_given_the_training_loss():
    """Where accuracy hangs on the loss alone, what noise adds is nothing, though the two are correlated."""
    rng = np.random.default_rng(0)
    noise, nuisance = rng.standard_normal((2, 4000))
    loss = noise + nuisance
    table = pd.DataFrame({"seed": 0, "sparsity": 0.9, "shuffled": False, "noise": noise, "train_loss": loss})
    (nothing,) = measures.flat_and_good(table.assign(test_accuracy=-loss + rng.standard_normal(4000)), 0.9)
    (flat,) = measures.flat_and_good(table.assign(test_accuracy=-noise), 0.9)
    assert abs(nothing) < 0.06
    assert flat < -0.9


def test_ranks_agree_with_themselves(compared):
    np.testing.assert_allclose(measures.rank_agreement(compared.accuracy, compared.accuracy, 0.95), 1)


def test_one_table_begins_with_the_best(compared):
    table = measures.in_one_table(compared, (0.5, 0.9, 0.95))
    points = compared.accuracy.query("sparsity == 0.9 and not shuffled")
    assert table.index[0] == points.groupby("method")["test_accuracy"].mean().idxmax()
    assert measures.in_words(compared.accuracy, 0.9) == {}  # no sentence about methods that were not run
    names = ("magnitude", "causal", "chaos-causality", "EWN", "PILoT", "L1")
    six = [_run(name, Mask({})).accuracy for name in names]
    assert measures.in_words(pd.concat(six), 0.95)["l1"] == pytest.approx(55)


def test_pictures_hold_what_was_run(compared):
    assert len(plots.curves(compared.accuracy).axes) == 3
    (label,) = plots.shuffled(compared.accuracy, (0.5,)).axes[0].get_yticklabels()
    assert label.get_text() == "magnitude"
    for figure in (plots.overlaps(compared.overlap), plots.flatness(compared.accuracy, 0.9)):
        assert figure.axes
    assert plots.carried_over(compared.accuracy, compared.accuracy, 0.9, ("a", "b")).axes


# --- data of one's own ------------------------------------------------------------------------------------------------


def test_own_data(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.choice(["no", "yes", "perhaps"], 300)
    x = rng.standard_normal((300, 5)) + 3 * (y == "yes")[:, None]
    np.savez(tmp_path / "mine.npz", x=x, y=y)
    task = own_data(tmp_path / "mine.npz", widths=(8,))
    found = compare([METHODS["magnitude"]], replace(task, n_epochs=20), (0, 1)).accuracy
    assert found.query("sparsity == 0")["test_accuracy"].mean() > 0.5
    assert found["task"].unique().tolist() == ["mine"]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.zeros((3, 2))}, "lacks y"),
        ({"x": np.zeros(3), "y": np.zeros(3)}, r"\(3,\)"),
        ({"x": np.full((3, 2), np.nan), "y": np.zeros(3)}, "finite"),
    ],
)
def test_bad_data_of_ones_own(tmp_path, arrays, told):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=told):
        own_data(tmp_path / "bad.npz")
    with pytest.raises(ValueError, match=r"nowhere\.npz"):
        own_data("nowhere.npz")
