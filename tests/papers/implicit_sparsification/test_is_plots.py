"""Pictures show what their tables hold."""

from __future__ import annotations

import pandas as pd
from matplotlib import pyplot as plt

from repro.papers.implicit_sparsification import plots


def test_distances_are_medians_over_seeds() -> None:
    rows = [("l1_x", h, s, d) for h, own in ((10, [5, 1, 2]), (20, [3, 1, 8])) for s, d in enumerate(own)]
    figure = plots.distances(pd.DataFrame(rows, columns=["family", "horizon", "seed", "distance"]))
    (axis,) = figure.axes
    assert [list(axis.lines[0].get_xdata()), list(axis.lines[0].get_ydata())] == [[10, 20], [2, 3]]
    plt.close(figure)
