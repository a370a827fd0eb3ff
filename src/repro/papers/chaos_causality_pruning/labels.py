"""Names of data sets, variants, arms and rules as tables and pictures show them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from repro.papers._pictures import PALETTE
from repro.papers.chaos_causality_pruning.arms import ARMS

__all__ = ["ARM_NAMES", "RULE_NAMES", "TABLE_NAMES", "VARIANT_NAMES", "legend_of_tables"]

TABLE_NAMES = {
    "iris": "iris",
    "wine": "wine",
    "breast_cancer_10": "breast cancer",
    "digits": "digits",
    "mnist5k": "MNIST, small",
    "mnist": "MNIST",
    "cancer": "cancer (paper's)",
    "banknote": "banknote",
    "vowel": "vowel",
    "titanic": "Titanic",
    "iris_3f": "iris, 3 features",
}
VARIANT_NAMES = {"ft": "FT", "pt": "PT"}
ARM_NAMES = ARMS | VARIANT_NAMES | {"stranger": "other initial weights"}
RULE_NAMES = {
    "paper": "the paper's rule",
    "f_test": "F instead of chi-squared",
    "single_lag": "F at one lag",
    "honest": "F, corrected",
}


def legend_of_tables(fig: Figure, tables: Sequence[str]) -> None:
    """Say below the picture which color is which table."""
    handles = [plt.Line2D([], [], color=PALETTE[j], marker="o") for j in range(len(tables))]
    fig.legend(handles, [TABLE_NAMES[t] for t in tables], loc="outside lower center", ncols=len(tables))
