"""Pictures of diagonal networks: they show what the tables hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from repro.papers._pictures import where
from repro.papers.implicit_sparsification.diagonal_comparisons import chosen_curves, families_at_horizons
from repro.papers.implicit_sparsification.diagonal_experiments import grid, trajectories
from repro.papers.implicit_sparsification.diagonal_families import FAMILIES
from repro.papers.implicit_sparsification.diagonal_plots import (
    coordinates,
    distance_by_amplitude,
    distance_by_horizon,
    distance_by_steps,
)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return grid(range(3), 200, horizons=[50, 200])


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_curves_are_medians_over_seeds(frame: pd.DataFrame) -> None:
    curves = chosen_curves(frame, 200)
    axis = distance_by_steps(curves).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines) == [family.name for family in FAMILIES.values()]
    middle = where(curves, family="pilot").groupby("step")["distance"].median()
    np.testing.assert_allclose(lines["m ⊙ w, unbalanced start"].get_ydata(), middle)
    assert len({line.get_marker() for line in axis.lines}) == len(FAMILIES)


def test_a_point_a_horizon(frame: pd.DataFrame) -> None:
    axis = distance_by_horizon(families_at_horizons(frame, [50, 200])).axes[0]
    assert all(line.get_xdata().tolist() == [50, 200] for line in axis.lines)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["50", "200"]


def test_amplitudes_at_which_a_seed_diverged_are_left_out(frame: pd.DataFrame) -> None:
    figure = distance_by_amplitude(frame, 200, ["pilot", "weights"])
    assert [axis.get_title() for axis in figure.axes] == [FAMILIES[key].name for key in ("pilot", "weights")]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    at = where(frame, family="pilot", schedule="geometric", step=200)
    whole = at.groupby("amplitude")["diverged"].any().eq(False)
    assert 0 < whole.sum() < len(whole)
    assert lines["∝ 0.95ᵏ"].get_xdata().tolist() == whole.index[whole].tolist()


def test_true_coordinates_of_each_family(frame: pd.DataFrame) -> None:
    curves = chosen_curves(frame, 200)
    settings = curves[["family", "schedule", "amplitude"]].drop_duplicates()
    paths = trajectories(settings[settings["family"].isin(["pilot", "spred"])], 1, 200)
    figure = coordinates(paths)
    for axis, key in zip(figure.axes, ("pilot", "spred"), strict=True):
        ends = sorted(line.get_ydata()[-1] for line in axis.lines if len(line.get_xdata()) > 2)
        np.testing.assert_allclose(ends, sorted(where(paths, family=key, step=200)["x"]))
        assert {text.get_text() for text in axis.texts} == {f"x{i}" for i in paths["coordinate"]}
