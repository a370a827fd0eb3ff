"""Numbers and masks that the paper and its authors' code give, to stand beside ours. None is a result of this library.

Where nothing is known, there is None. Sets are named as in ``tabular``; ``mnist`` is the paper's MNIST.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import StringIO

import pandas as pd

__all__ = [
    "HYPER_PARAMETERS",
    "MNIST_REMOVED",
    "MNIST_TESTED",
    "PRINTED_TRIALS",
    "REMOVED",
    "HyperParameters",
    "hyper_parameters",
    "table_1",
    "table_2",
    "table_3",
    "table_4",
]


@dataclass(frozen=True)
class HyperParameters:
    """Network and training of one set, from the authors' code.

    Attributes:
        sizes: widths from input to output.
        learning_rate: constant.
        benchmark: training accuracy at which retraining stops.
        batch_size: examples an update.
        epochs_ft, epochs_pt: passes whose weights are logged.
        window_ft, window_pt: rows in a window.
        forward_steps_ft, forward_steps_pt: s of the exponents, where it leads to the published masks.
        max_lag_ft, max_lag_pt: largest lag of the tests, likewise.
    """

    sizes: tuple[int, ...]
    learning_rate: float
    benchmark: float
    batch_size: int
    epochs_ft: int
    epochs_pt: int
    window_ft: int
    window_pt: int
    forward_steps_ft: int | None
    forward_steps_pt: int | None
    max_lag_ft: int | None
    max_lag_pt: int | None


HYPER_PARAMETERS: Mapping[str, HyperParameters] = {
    "cancer": HyperParameters((9, 6, 1), 0.01, 0.90, 1, 50, 12, 200, 50, 20, None, 20, None),
    "titanic": HyperParameters((6, 8, 1), 0.1, 0.74, 1, 50, 3, 250, 50, 20, None, 20, None),
    "banknote": HyperParameters((4, 8, 1), 0.5, 0.91, 1, 100, 2, 250, 50, None, None, None, 5),
    "iris": HyperParameters((4, 6, 3), 0.05, 0.95, 1, 200, 20, 160, 50, 20, 3, 20, 14),
    "iris_3f": HyperParameters((3, 6, 3), 0.05, 0.95, 1, 200, 20, 160, 50, 20, 3, 20, 14),
    "vowel": HyperParameters((3, 4, 6), 0.5, 0.80, 1, 50, 5, 200, 50, None, None, None, None),
    "mnist": HyperParameters((784, 50, 30, 10), 0.5, 0.92, 128, 50, 5, 200, 50, None, None, None, None),
}
"""By set. Where steps and lags are given, they lead to the published masks (Banknote PT with 3 steps: nearly)."""

PRINTED_TRIALS: Mapping[str, int] = {
    "cancer": 2,
    "titanic": 1,
    "banknote": 4,
    "iris": 5,
    "iris_3f": 2,
    "mnist": 3,
}
"""Which of the five initialisations, counted from 1, the paper's Tables 1 and 2 print; vowel's is unknown."""

MNIST_REMOVED = 139
"""Weights that FT removes in the paper's Table 1."""

MNIST_TESTED = 1800
"""Weights that it tests: those of layers 2 and 3."""

_MASKS = """
iris ft      | 22 34 | 8 26 | 1 13 | | 6 16
iris pt      | 4 6 14 33 35 | 6 26 | 2 26 | 9 41 | 0 31
iris_3f ft   | 3 5 6 7 8 9 11 15 16 28 | 6 10 11 13 15 16 17 19 22 27 | 9 32 35 | 12 15 24 29 | 32 34
iris_3f pt   | 1 16 | | 16 18 24 26 27 28 | 3 22 33 | 25 28
cancer ft    | 14 31 49 5 33 6 23 32 41 15 | 14 13 6 33 15 51 | 4 31 51 13 | 5 42 41 32 | 14 51
cancer pt    | 39 48 19 13 22 30 49 | 27 18 33 31 54 1 4 9 45 39 23 48 12 37 49 40 58 22 \
             | 40 27 10 22 5 36 54 21 41 49 30 4 31 | 59 21 5 12 6 32 22 25 23 48 3 7 31 16 4 | 12
titanic ft   | 55 52 22 48 | 8 | 4 9 48 | 14 48 4 52 | 50 16 55 54 51 53
titanic pt   | 28 27 22 24 47 4 26 51 46 43 15 55 35 31 40 23 29 50 5 54 39 52 1 53 19 38 48 \
             | 43 35 2 20 16 14 44 47 41 37 33 54 7 55 38 45 11 46 4 34 5 25 40 3 15 1 53 49 21 51 50 13 39 8 48 9 \
             | 48 21 37 20 50 29 46 54 11 5 44 19 39 25 9 15 55 38 17 51 34 45 1 49 28 40 31 32 33 52 26 4 2 3 7 8 \
               10 27 \
             | 33 17 26 7 3 50 37 31 29 22 16 51 41 15 34 2 52 27 9 48 8 14 13 28 55 10 49 32 11 1 23 45 54 53 46 \
             | 3 1 14 22 49 54 40 4 21 25 50 27 8 11 48 7 38 31 2 20 33 44 15 55 9 5 51 26 52
banknote ft  | 17 9 | 2 8 7 | 36 | 36 29 14 7 | 28 21 23
banknote pt  | 25 27 36 26 19 6 37 35 34 | 6 26 27 32 17 3 34 19 12 38 24 33 20 25 1 \
             | 6 9 30 23 15 38 21 39 36 14 5 17 33 18 1 | 38 25 32 36 7 39 34 11 35 \
             | 38 10 22 33 18 9 36 5 6 13 4 19 34 32 37
"""


def _read_masks() -> dict[tuple[str, str], tuple[frozenset[int], ...]]:
    masks = {}
    for line in _MASKS.strip().splitlines():
        key, *trials = line.split("|")
        name, variant = key.split()
        masks[name, variant] = tuple(frozenset(map(int, trial.split())) for trial in trials)
    return masks


REMOVED: Mapping[tuple[str, str], tuple[frozenset[int], ...]] = _read_masks()
"""By set and variant (``"ft"``, ``"pt"``): the weights that the published masks remove, for each of five trials.

Indices from 0 in the flat order: all of the first layer row by row, then the second. Those of Banknote PT are not
the mask of the printed row, which removes three weights.
"""

_TABLE_1 = """
table flops_dense flops_ft non_causal epochs_dense epochs_ft accuracy_dense accuracy_ft f1_dense f1_ft pruned_percent
cancer 60 54 6 70 38 0.8759 0.8686 0.8656 0.8570 10
titanic 56 52 4 43 20 0.7225 0.7177 0.6948 0.6843 7.14
banknote 40 36 4 9 7 0.9018 0.8909 0.9016 0.8906 10
iris 42 40 2 182 166 0.9 0.9 0.9124 0.9419 4.76
iris_3f 36 26 10 139 126 0.9 0.9 0.933 0.904 27.78
vowel 36 34 2 36 14 0.7462 0.7538 0.7307 0.74 5.56
mnist 41000 40861 139 27 30 0.9121 0.9165 0.8669 0.8781 0.34
"""
_TABLE_2 = """
table logged_epochs flops_ft flops_pt epochs_ft epochs_pt accuracy_ft accuracy_pt f1_ft f1_pt pruned_percent
cancer 12 54 42 38 24 0.8686 0.8759 0.8656 0.8643 30
titanic 3 52 29 20 36 0.7177 0.7249 0.6843 0.6969 48.21
banknote 2 36 37 7 6 0.8909 0.8945 0.8906 0.8943 7.5
iris 20 40 40 166 173 0.9 0.9000 0.9124 0.9124 4.76
iris_3f 20 26 28 126 135 0.9 0.9333 0.9040 0.9330 22.22
vowel 5 34 28 14 20 0.7538 0.7538 0.7400 0.7441 22.22
mnist 5 40861 40867 30 29 0.9165 0.9152 0.8781 0.8408 0.32
"""
_TABLE_3 = """
table epochs_random accuracy_random accuracy_magnitude f1_random f1_magnitude
cancer 42 0.8759 0.8905 0.8656 0.8814
titanic 35 0.7201 0.7201 0.6842 0.6906
banknote 6 0.8945 0.9018 0.8943 0.9015
iris 179 0.9000 0.9000 0.9124 0.9124
iris_3f 160 0.9000 0.9333 0.9330 0.9330
vowel 28 0.7462 0.7462 0.7229 0.7307
mnist 31 0.9119 0.9121 0.8627 0.8669
"""
_TABLE_4 = """
model layer alpha weighted_alpha
dense 784-50 2.19 1.63
dense 50-30 1.51 1.88
dense 30-10 1.94 2.76
ft 784-50 2.24 1.64
ft 50-30 1.51 1.83
ft 30-10 2.29 3.20
pt 784-50 2.19 1.71
pt 50-30 1.51 1.85
pt 30-10 2.73 3.87
random 784-50 2.30 1.53
random 50-30 1.70 1.95
random 30-10 2.00 2.84
magnitude 784-50 2.19 1.63
magnitude 50-30 1.55 1.85
magnitude 30-10 1.96 2.78
"""


def _read(text: str, index: str | list[str]) -> pd.DataFrame:
    return pd.read_csv(StringIO(text.strip()), sep=r"\s+").set_index(index)


def table_1() -> pd.DataFrame:
    """Return the paper's Table 1: dense networks and LEGCNet-FT, one row a set.

    Columns: ``flops_*``, the number of weights left (without biases; not operations of a pass); ``non_causal``,
    weights removed; ``epochs_*``, the first epoch, counted from 0, that ends at the benchmark; ``accuracy_*`` and
    macro ``f1_*`` on the test part after that epoch; ``pruned_percent`` of the weights.
    """
    return _read(_TABLE_1, "table")


def table_2() -> pd.DataFrame:
    """Return the paper's Table 2: LEGCNet-FT and LEGCNet-PT, one row a set.

    Columns as in ``table_1``; ``logged_epochs`` are the passes that PT looks at, ``pruned_percent`` is PT's. The
    F1 of FT differs from Table 1's for Cancer and Iris: so it is printed.
    """
    return _read(_TABLE_2, "table")


def table_3() -> pd.DataFrame:
    """Return the paper's Table 3: random and magnitude pruning, one row a set.

    Columns as in ``table_1``. How many weights were removed, and the epochs of magnitude pruning, are unknown.
    """
    return _read(_TABLE_3, "table")


def table_4() -> pd.DataFrame:
    """Return the paper's Table 4: WeightWatcher on MNIST, one row a (model, layer).

    Columns: ``alpha``, the exponent of the power law fitted to the layer's spectrum, and ``weighted_alpha``, the
    exponent times the logarithm of the largest eigenvalue.
    """
    return _read(_TABLE_4, ["model", "layer"])


def hyper_parameters() -> pd.DataFrame:
    """Return ``HYPER_PARAMETERS``, one row a set; whole numbers are nullable, unknown ones are ``<NA>``."""
    frame = pd.DataFrame({name: asdict(known) for name, known in HYPER_PARAMETERS.items()}).T
    whole = [c for c in frame if c not in ("sizes", "learning_rate", "benchmark")]
    types = dict.fromkeys(whole, "Int64") | {"learning_rate": "float64", "benchmark": "float64"}
    return frame.astype(types).rename_axis("table")
