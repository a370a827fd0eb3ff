"""What is read off the tables: crossings and fits by hand, strengths chosen by validation and by nothing else."""

import numpy as np
import pandas as pd
import pytest

from repro.papers._pictures import where
from repro.papers.implicit_sparsification import experiments, measures
from repro.papers.implicit_sparsification.measures import best_schedules, chosen_by_validation, crossings

# ---- flows


def test_crossings_are_counted_as_by_hand():
    distances = {"l2_distance": [0.0, 0.5, 0.4, 0.9], "l1_distance": [1.0, 0.4, 0.6, 0.1]}
    cosines = {"l2_cosine": [1.0, 0.9, 0.8, 0.7], "l1_cosine": [0.2, 0.5, 0.5, 1.0]}
    table = pd.DataFrame({"seed": 7, "time": [1.0, 2.0, 3.0, 4.0]} | distances | cosines)
    found = crossings(table.iloc[::-1]).iloc[0]
    assert (found["crossings"], found["time"]) == (3, 2.0)
    assert (found["l2_cosine_first"], found["l1_cosine_last"]) == (1.0, 1.0)
    never = crossings(table.assign(l1_distance=2.0)).iloc[0]
    assert never["crossings"] == 0
    assert np.isnan(never["time"])


def test_the_error_falls_with_the_dose_at_one_rate_and_depends_on_the_final_scale():
    table = experiments.recovery([0, 1])
    late = where(table, matched=6.0).pivot_table(index="seed", columns="beta", values=["dose", "error"])
    assert (late["dose"][100.0] - late["dose"][1.0]).tolist() == pytest.approx([np.log(100) / 4] * 2)
    np.testing.assert_allclose(late["error"][100.0], late["error"][1.0], rtol=0.5)
    assert table["r2"].min() > 0.999
    rates = table.pivot_table("rate", "seed", "beta")
    np.testing.assert_allclose(rates[1.0], rates[100.0], rtol=0.02)  # the start has no part in it


# ---- diagonal networks


NAN = float("nan")
RUN = ["family", "schedule", "amplitude"]
ROWS = [  # a run, its validation errors on two seeds, its distance on the first
    ("pilot", "constant", 1.0, 3.0, 3.0, 0.0),
    ("pilot", "constant", 2.0, 1.0, 2.0, 5.0),
    ("pilot", "constant", 3.0, 0.1, NAN, 0.1),
    ("pilot", "harmonic", 1.0, 1.0, 1.5, 7.0),
    ("pilot", "harmonic", 2.0, 2.0, 2.0, 1.0),
    ("spred", "constant", 1.0, 5.0, 5.0, 21.0),
    ("spred", "constant", 2.0, 6.0, 6.0, 0.5),
]
TABLE = pd.DataFrame(ROWS, columns=[*RUN, 0, 1, "first"])
TABLE = TABLE.melt([*RUN, "first"], [0, 1], "seed", "validation_error")
TABLE = TABLE.assign(step=5, flips=0, distance=TABLE["first"] * (1 + TABLE["seed"].astype(int)))


def test_strengths_are_chosen_by_validation_and_not_by_distance_at_each_horizon_anew():
    later = TABLE.assign(step=9, validation_error=-TABLE["validation_error"])
    both = where(best_schedules(pd.concat([TABLE, later]), [5, 9]), family="pilot")
    constant, harmonic = (where(both, horizon=5, schedule=name) for name in ("constant", "harmonic"))
    assert constant["amplitude"].tolist() == [2.0, 2.0]
    assert not constant["best"].any()
    assert harmonic["amplitude"].tolist() == [1.0, 1.0]
    assert harmonic["best"].all()
    assert harmonic["distance"].tolist() == [7.0, 14.0]
    chosen = where(both, horizon=9, best=True)
    assert chosen[["schedule", "amplitude"]].values.tolist() == [["constant", 1.0]] * 2


def test_the_balanced_start_is_compared_at_its_best_in_hindsight_and_its_flips_in_the_whole_grid():
    unchosen = (TABLE["family"] == "spred") & (TABLE["amplitude"] == 2.0) & (TABLE["seed"] == 1)
    earlier = TABLE.assign(step=2, flips=np.where(unchosen, 4, 0))
    later = TABLE.assign(step=9, flips=7)
    found = measures.balanced_start(pd.concat([earlier, TABLE, later]), 5)
    assert found["ratio"].tolist() == [0.5 / 7, 1.0 / 14]
    assert found["flips"].tolist() == [0, 4]


def test_steps_to_reach_a_level_are_those_of_the_setting_that_is_soonest_by_validation():
    """The second setting is closer to the truth first, which nobody can see."""
    courses = {  # amplitude: validation errors, distances at steps 0, 10, 20, 30
        1.0: ([9.0, 0.1, 9.0, 0.0], [3.0, 2.0, 0.5, 0.1]),
        2.0: ([9.0, 9.0, 0.1, 0.1], [3.0, 0.1, 2.0, 2.0]),
    }
    rows = [
        ("pilot", "constant", amplitude, seed, step, error, distance + late)
        for amplitude, course in courses.items()
        for seed, late in ((0, 0.0), (1, 0.3))
        for step, error, distance in zip((0, 10, 20, 30), *course, strict=True)
    ]
    grid = pd.DataFrame(rows, columns=[*RUN, "seed", "step", "validation_error", "distance"])
    assert measures.steps_to_reach(grid, 0.5)["pilot"].tolist() == [20, 30]
    # at the last step, reached or not
    assert measures.steps_to_reach(grid, 0.05)["pilot"].tolist() == [30, 30]


# ---- pruned networks


def accuracies(rows):
    columns = ["method", "strength", "schedule", "seed", "sparsity", "validation_accuracy"]
    frame = pd.DataFrame(rows, columns=columns).assign(rate=0.1, knob=0.0)
    return frame.assign(test_accuracy=np.linspace(0, 1, len(frame)))


def test_the_choice_with_the_best_mean_is_taken_for_each_method_and_sparsity():
    means = {("a", 1.0, 0.9): (0.9, 0.1), ("a", 2.0, 0.9): (0.6, 0.6), ("a", 1.0, 0.5): (0.7, 0.7)}
    means |= {("a", 2.0, 0.5): (0.6, 0.6), ("b", 3.0, 0.9): (0.2, 0.2)}
    rows = [(m, a, "half", s, p, of[s]) for (m, a, p), of in means.items() for s in (0, 1)]
    frame = accuracies(rows)
    found = chosen_by_validation(frame).set_index(["method", "sparsity"])
    assert found["strength"].to_dict() == {("a", 0.5): 1.0, ("a", 0.9): 2.0, ("b", 0.9): 3.0}
    assert found["validation_accuracy"].tolist() == pytest.approx([0.7, 0.6, 0.2])
    shuffled = frame.assign(test_accuracy=np.random.default_rng(0).permutation(frame["test_accuracy"]))
    assert chosen_by_validation(shuffled).equals(chosen_by_validation(frame))
    frame = pd.concat([frame, frame.assign(schedule="constant", validation_accuracy=0.1)])
    found = chosen_by_validation(frame, lambda means: means["schedule"] == "constant")
    assert set(found["schedule"]) == {"constant"}


@pytest.mark.parametrize(
    ("smaller", "larger"),
    # (0.1 + 0.2) / 2 is a rounding error more than 0.15
    [((0.15, 0.15), (0.1, 0.2)), ((0.5, 0.5), (NAN, 0.9))],
    ids=["equal means", "a seed diverged"],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_smaller_of_equal_strengths_is_taken_and_none_at_which_a_seed_diverged(smaller, larger, order):
    both = ((1.0, smaller), (2.0, larger))
    rows = [("a", strength, "half", seed, 0.9, of[seed]) for strength, of in both for seed in (0, 1)]
    assert set(chosen_by_validation(accuracies(rows)[::order])["strength"]) == {1.0}


def test_a_window_is_measured_in_octaves_between_the_crossings_of_the_level():
    """One seed rises and falls by lines over the logarithm, one is kept beyond the grid, one never is."""
    accuracies = {0: [0.5, 0.9, 1.0, 0.8, 0.2], 1: [1.0] * 5, 2: [0.5] * 5}
    rows = [(2.0**k, seed, of[k]) for seed, of in accuracies.items() for k in range(5)]
    found = measures.window(pd.DataFrame(rows, columns=["strength", "seed", "test_accuracy"]), 0.9)
    assert found.tolist() == pytest.approx([1.5, 4.0, 0.0], abs=0.01)
