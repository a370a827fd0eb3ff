"""Numbers from the authors' published training logs, to stand beside ours. None is a result of this library.

They come with the authors' code (github.com/DepenM/Exp-WN), not from the printed paper, whose figures were not at hand.
"""

from __future__ import annotations

from importlib.resources import files
from io import StringIO

import numpy as np
import pandas as pd

RUNS = pd.read_csv(
    StringIO("""run, method, steps, first, second, third
two weights from (1 1), ewn, 57, 24.671, 1.970,
two weights from (3 1), ewn, 49, 25.101, 1.177,
two weights from (1 3), ewn, 58, 45.573, 2.723,
two weights from (5 1), ewn, 45, 25.254, 1.089,
two weights from (1 5), ewn, 52, 48.216, 1.577,
two weights from (1 1), plain, 2770, 19.802, 10.401,
two weights from (3 1), plain, 2755, 20.202, 9.601,
two weights from (1 3), plain, 2763, 19.002, 12.001,
two weights from (5 1), plain, 2734, 20.603, 8.801,
two weights from (1 5), plain, 2755, 18.202, 13.601,
Lin-Sep, ewn, 653, 8.433, 5.982, 5.213
Lin-Sep, swn, 12284, 6.693, 6.442, 5.945
XOR, ewn, 2785, 35.654, 32.910, 32.390
XOR, swn, 1482, 13.436, 12.560, 10.559
XOR, plain, 1617, 9.628, 9.164, 9.083
"""),
    skipinitialspace=True,
).set_index(["run", "method"])
"""The logged runs on the synthetic sets: steps, and the longest neurons at the end, the longest first."""

XOR_SEED = 9156

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
    with files(__package__).joinpath("authors.csv").open() as file:
        logged = pd.read_csv(file, dtype={"z": float})
    tables = []
    for _, row in logged.iterrows():
        accuracy = np.array(row["accuracy"].split(), dtype=float)
        about = row.drop("accuracy").to_dict() | {"pruned_percent": 5 * np.arange(len(accuracy))}
        tables.append(pd.DataFrame(about | {"accuracy": accuracy}))
    return pd.concat(tables, ignore_index=True)
