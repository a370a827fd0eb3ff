"""Tables of the chapter, split and scaled as the authors' code does it, or with nothing learned from test data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repro.learn._splits import draw, standardization
from repro.learn.seeding import streams
from repro.papers.chaos_causality_pruning._tables import IRIS_3F, NAMES, Table, load_table

__all__ = [
    "NAMES",
    "HonestSplit",
    "Split",
    "Table",
    "authors_initial_weights",
    "authors_split",
    "honest_split",
    "load_table",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Weights = tuple[Floats, Floats, Floats, Floats]


@dataclass(frozen=True)
class Split:
    """Inputs, float64 ``(n, features)``, and classes, int64 ``(n,)``, for training and for testing."""

    x_train: Floats
    y_train: Ints
    x_test: Floats
    y_test: Ints


@dataclass(frozen=True)
class HonestSplit(Split):
    """A split with a part for decisions that must see neither training nor test examples."""

    x_validation: Floats
    y_validation: Ints


@dataclass(frozen=True)
class _Authors:
    """The authors' network and stream: examples shuffled before the weights are drawn, normals skipped."""

    shuffled: int
    skipped: int
    sizes: tuple[int, int, int]


# of the file that the authors took: scikit-learn has other values in these rows
_IRIS_ROWS, _IRIS_VALUES = [34, 37], np.array([4.9, 3.1, 1.5, 0.1])

_TRAINING_ROWS = {"iris": 120, "iris_3f": 120, "cancer": 546, "banknote": 1097, "vowel": 741}

_AUTHORS = {
    "iris": _Authors(150, 0, (4, 6, 3)),
    "iris_3f": _Authors(150, 0, (3, 6, 3)),
    "cancer": _Authors(871, 0, (9, 6, 1)),
    "titanic": _Authors(891, 749, (6, 8, 1)),
    "banknote": _Authors(1372, 661, (4, 8, 1)),
}


def authors_split(table: Table) -> Split:
    """Split and scale a table as the authors' code does, faults included; for reruns of their numbers only.

    The rows are shuffled by ``RandomState(42).permutation(n)``; the first 80 % (vowel: 741 of 871) are for training.
    Titanic's training part alone is shuffled, its test part is Kaggle's. Iris: two rows have the values of the
    authors' file; each feature is standardised, training and test part each with its own mean and population
    deviation. Cancer, Titanic, Banknote: each *example* is standardised over its features; one whose features
    are all equal becomes zero. Vowel: each feature is mapped to [0, 1], each part by its own range; that its rows
    are shuffled like the others' is not confirmed.

    Args:
        table: one of the paper's: iris, iris_3f, cancer, banknote, vowel, titanic.

    Raises:
        ValueError: another table.
    """
    if table.name not in (*_TRAINING_ROWS, "titanic"):
        known = ", ".join((*_TRAINING_ROWS, "titanic"))
        raise ValueError(f"the authors split the tables {known}; got {table.name!r}")
    order = np.random.RandomState(42).permutation(len(table.y))
    x = table.x.copy()
    if table.name.startswith("iris"):
        x[_IRIS_ROWS] = _IRIS_VALUES[list(IRIS_3F)] if table.name == "iris_3f" else _IRIS_VALUES
    x, y = x[order], table.y[order]
    if table.test is None:
        n = _TRAINING_ROWS[table.name]
        parts = [(x[:n], y[:n]), (x[n:], y[n:])]
    else:
        parts = [(x, y), table.test]
    scale = _AUTHORS_SCALING.get(table.name, _standardized_examples)
    (x_train, y_train), (x_test, y_test) = parts
    return Split(scale(x_train), y_train, scale(x_test), y_test)


def _standardized_features(x: Floats) -> Floats:
    return (x - x.mean(0)) / x.std(0)


def _standardized_examples(x: Floats) -> Floats:
    deviation = x.std(1, keepdims=True)
    return (x - x.mean(1, keepdims=True)) / np.where(np.ptp(x, 1, keepdims=True) == 0, 1, deviation)


def _to_unit_range(x: Floats) -> Floats:
    return (x - x.min(0)) / np.ptp(x, 0)


_AUTHORS_SCALING = {
    "iris": _standardized_features,
    "iris_3f": _standardized_features,
    "vowel": _to_unit_range,
}


def authors_initial_weights(name: str, n_trials: int = 10) -> list[Weights]:
    r"""Draw the authors' initial weights again, $0.1\,z$ with $z$ from the legacy stream of seed 42.

    The stream goes on where their shuffle left it (for Titanic and Banknote some normals later), trial after trial.

    Args:
        name: iris, iris_3f, cancer, titanic or banknote.
        n_trials: number of networks, 1 or more; the paper's five are the first five.

    Returns:
        For each trial $W_1$ ``(hidden, inputs)``, $b_1$ ``(hidden, 1)``, $W_2$ ``(outputs, hidden)``,
        $b_2$ ``(outputs, 1)``.

    Raises:
        ValueError: another table, or no trial.
    """
    if name == "vowel":
        raise ValueError("the authors' weights for vowel cannot be drawn again: their generator is unknown")
    if name not in _AUTHORS:
        raise ValueError(f"the authors' weights are known for {', '.join(_AUTHORS)}; got {name!r}")
    if n_trials < 1:
        raise ValueError(f"n_trials must be 1 or more; got {n_trials}")
    known = _AUTHORS[name]
    n_inputs, n_hidden, n_outputs = known.sizes
    shapes = ((n_hidden, n_inputs), (n_hidden, 1), (n_outputs, n_hidden), (n_outputs, 1))
    stream = np.random.RandomState(42)
    stream.permutation(known.shuffled)
    stream.randn(known.skipped)
    trials = []
    for _ in range(n_trials):
        w1, b1, w2, b2 = (0.1 * stream.randn(*shape) for shape in shapes)
        trials.append((w1, b1, w2, b2))
    return trials


def honest_split(table: Table, seed: int = 0) -> HonestSplit:
    r"""Split a table 60 : 20 : 20 by class and scale it, $x\mapsto(x-\bar x)/s$, by the training part alone.

    Digits are divided by 16 instead. A test part of the set's authors (Titanic) is left aside.

    Args:
        table: any.
        seed: of the split, through the data stream of ``seeding.streams``.

    Raises:
        ValueError: a seed that is not a whole number of 0 or more; too few examples for the classes.
    """
    n = len(table.y)
    fifth = round(0.2 * n)
    places = draw(table.y, (n - 2 * fifth, fifth, fifth), streams(seed).data, stratify=True)
    how = (0.0, 16.0) if table.name == "digits" else "feature"
    mean, deviation = standardization(table.x[places[0]], how)
    x = [(table.x[place] - mean) / deviation for place in places]
    y = [table.y[place] for place in places]
    return HonestSplit(x[0], y[0], x[2], y[2], x[1], y[1])
