"""Numbers from the authors' published training logs, to stand beside ours. None is a result of this library.

They come with the authors' code (github.com/DepenM/Exp-WN), not from the printed paper, whose figures were not at hand.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from repro.papers.ewn_inductive_bias.measures import _with_best_of_scores

_FOLDER = Path(__file__).parent

_RUNS = pd.read_csv(_FOLDER / "authors_runs.csv").set_index(["run", "method"])
"""The logged runs on the synthetic sets: steps, and the longest neurons at the end, the longest first."""

SINGLE_RUNS = {
    ("E9", "ewn-count"): 4,
    ("E9", "swn-count"): 16,
    ("E9", "plain-count"): 20,
    ("E11", "ewn-depth-ratio"): 1.98,
    ("E11", "swn-depth-ratio"): 28.1,
    ("E11", "plain-depth-ratio"): 70.0,
}
"""What a claim's test finds in their one logged run: neurons longer than a fifth of the longest, ratios of losses."""


def pruning() -> pd.DataFrame:
    """Test accuracies after pruning, every logged seed and score: MNIST at three losses, CIFAR-10 at e^-300.

    Returns:
        As the second table of ``experiments.image_pruning`` (accuracy in per cent), with a column ``dataset``.
    """
    logged = pd.read_csv(_FOLDER / "authors_pruning.csv", dtype={"z": float})
    logged["accuracy"] = logged["accuracy"].str.split()
    logged["pruned_percent"] = logged["accuracy"].map(lambda levels: range(0, 5 * len(levels), 5))
    tall = logged.explode(["accuracy", "pruned_percent"]).astype({"accuracy": float, "pruned_percent": int})
    return _with_best_of_scores(tall)


def agreement(race: pd.DataFrame, lin_sep: pd.DataFrame, xor: pd.DataFrame) -> pd.DataFrame:
    """The authors' runs repeated, beside their logs.

    Args:
        race, lin_sep, xor: of ``experiments.simple_trajectory_descent``, ``lin_sep_descent``, and ``xor_sparsity`` of
            the authors' seed.

    Returns:
        One row a run and method: steps, logged_steps, longest, logged_longest (of the neurons at the end), difference
        (the largest relative one of the longest two or three).
    """
    two = race.melt(["method", "start_1", "start_2", "steps"], ["end_1", "end_2"], value_name="length")
    starts = zip(two["start_1"], two["start_2"], strict=True)
    two["run"] = [f"two weights from ({first:g} {second:g})" for first, second in starts]
    ends = (table[table["end"]].assign(run=run) for run, table in (("Lin-Sep", lin_sep), ("XOR", xor)))
    theirs = {(run, method): numbers for run, method, *numbers in _RUNS.reset_index().to_numpy()}
    rows = []
    for (run, method), own in pd.concat([two, *ends]).groupby(["run", "method"], sort=False):
        logged_steps, *lengths = (value for value in theirs[str(run), str(method)] if value > 0)
        ours = own["length"].nlargest(len(lengths)).to_numpy()
        off = np.abs(ours / lengths - 1).max()
        rows.append((run, method, int(own["steps"].iloc[0]), int(logged_steps), ours[0], lengths[0], off))
    names = ["run", "method", "steps", "logged_steps", "longest", "logged_longest", "difference"]
    return pd.DataFrame(rows, columns=names)
