"""The rows of the paper's Tables 1 and 2 beside the same trials run again."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from repro.papers.chaos_causality_pruning import published
from repro.papers.chaos_causality_pruning.authors_runs import AuthorsRun

__all__ = ["beside_seeds", "compare", "mask_overlaps"]

# the published PT mask of this set is that of another trial than the row's
_NO_MASK_FOR_ROW = {("iris_3f", "pt"), ("banknote", "pt")}


def _printed(name: str) -> dict[str, dict[str, float]]:
    """Epochs, accuracy and F1 of the dense, FT and PT networks, as printed."""
    (one,) = published.table_1().query(f"table == '{name}'").to_dict("records")
    (two,) = published.table_2().query(f"table == '{name}'").to_dict("records")
    return {
        arm: {metric: float(row[f"{metric}_{arm}"]) for metric in ("epochs", "accuracy", "f1")}
        for arm, row in (("dense", one), ("ft", one), ("pt", two))
    }


def compare(runs: Mapping[str, AuthorsRun]) -> pd.DataFrame:
    """Set the printed trial's networks beside what the paper prints for them.

    Args:
        runs: by data set, the authors' initialisations run again under the published masks.

    Returns:
        One row a (data, network): epochs (from 0), accuracy and F1 of the paper and of the run, and whether all
        three ``matches``: the epochs exactly, the others to the four printed digits. Rows of the paper whose mask is
        not published are left out.
    """
    rows = []
    for name, run in runs.items():
        trial = published.PRINTED_TRIALS[name]
        for network, paper in _printed(name).items():
            if (name, network) in _NO_MASK_FOR_ROW:
                continue
            (ours,) = run.runs.query(f"trial == {trial} and arm == '{network}'").to_dict("records")
            found = {"epochs": ours["epochs"], "accuracy": ours["test_accuracy"], "f1": ours["macro_f1"]}
            matches = found["epochs"] == paper["epochs"] and all(
                # the paper cuts or rounds the fourth digit
                abs(found[metric] - paper[metric]) < 1.001e-4
                for metric in ("accuracy", "f1")
            )
            rows.append(
                {"data": name, "trial": trial, "network": network}
                | {f"{metric}, paper": value for metric, value in paper.items()}
                | {f"{metric}, here": value for metric, value in found.items()}
                | {"matches": matches}
            )
    return pd.DataFrame(rows)


def mask_overlaps(runs: Mapping[str, AuthorsRun]) -> pd.DataFrame:
    """Return the Jaccard indices of published and recomputed sets, with a column ``data``."""
    return pd.concat([run.jaccard.assign(data=name) for name, run in runs.items()], ignore_index=True)


def beside_seeds(name: str, seeds: pd.DataFrame) -> pd.DataFrame:
    """Set the printed epochs and accuracies beside the distribution over fresh initial weights.

    Args:
        name: of the data set.
        seeds: as ``distribution_over_seeds`` gives it.

    Returns:
        One row a network: what the paper prints, the median and the 5 % and 95 % quantiles over seeds.
    """
    rows = []
    for network, paper in _printed(name).items():
        chosen = seeds[seeds["arm"] == network]
        low, middle, high = chosen["epochs"].quantile([0.05, 0.5, 0.95])
        rows.append(
            {"data": name, "network": network, "epochs, paper": paper["epochs"]}
            | {
                "5 %": low,
                "median": middle,
                "95 %": high,
                "failures, %": 100 * (1 - chosen["reached"].mean()),
            }
            | {"accuracy, paper": paper["accuracy"], "accuracy, mean": chosen["test_accuracy"].mean()}
        )
    return pd.DataFrame(rows)
