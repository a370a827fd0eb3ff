"""Pictures show what their tables hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from repro.papers.implicit_sparsification import plots


def test_amplitudes_at_which_a_seed_diverged_are_left_out_and_middles_are_medians() -> None:
    rows = [("weights", "constant", a, s, d) for a, own in ((1, [5, 1, 2]), (2, [3, 1, np.nan]))
            for s, d in enumerate(own)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["family", "schedule", "amplitude", "seed", "distance"])
    figure = plots.distances(table, "amplitude")
    (axis,) = figure.axes
    assert [list(axis.lines[0].get_xdata()), list(axis.lines[0].get_ydata())] == [[1], [2]]
    plt.close(figure)
