"""Data, networks and training of the chapter's own runs, where every seed has a split and weights of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from repro.base import one_of
from repro.learn import data
from repro.learn.data import draw, standardization
from repro.learn.seeding import streams
from repro.learn.sources import CorruptDataError, DataNotFoundError, embedded, fingerprint
from repro.papers.chaos_causality_pruning.perceptrons import _Examples, _Perceptrons

# --- networks and training ------------------------------------------------------------------------------------


class _Parts(NamedTuple):
    """Training, validation and test examples of S splits."""

    train: _Examples
    validation: _Examples
    test: _Examples


@dataclass(frozen=True)
class Setting:
    """One data set with its network and training.

    Attributes:
        name: of the data set.
        hidden: widths of the hidden layers.
        learning_rate: constant.
        benchmark: training accuracy at which retraining stops.
        epochs: passes of dense training, to which LEGCNet-FT looks.
        early_epochs: passes that LEGCNet-PT looks at, about a tenth, and enough for the 53 windows of the
            paper's iris runs; None where one variant over all passes is all there is.
        window: rows of an FT window; 0 where there is no FT.
        max_lag: largest lag of the FT and the PT rule.
        batch_size: examples an update.
        share: of the passes that dense training makes, in (0, 1].
        reshuffle: a new order of examples in every pass; the paper's tables are always read in one order.
    """

    name: str
    hidden: tuple[int, ...]
    learning_rate: float
    benchmark: float
    epochs: int
    early_epochs: int | None
    window: int
    max_lag: int = 14
    batch_size: int = 1
    share: float = 1.0
    reshuffle: bool = False

    @property
    def images(self) -> bool:
        """Whether the inputs are pixels, and the network ends in a softmax."""
        return self.name in ("digits", "mnist")

    @property
    def dense_epochs(self) -> int:
        """Passes that dense training makes."""
        return max(1, round(self.epochs * self.share))

    @property
    def cap(self) -> int:
        """Most passes of retraining: as in the paper's code fifty more than of dense training, but for images."""
        return self.epochs + (0 if self.images else 50)

    @property
    def how(self) -> dict[str, Any]:
        """What dense training and retraining share."""
        return {name: getattr(self, name) for name in ("learning_rate", "batch_size", "reshuffle")}

    @classmethod
    def named(cls, name: str, share: float = 1.0) -> Setting:
        """Return the setting of a data set, with a share of its passes of dense training.

        Raises:
            ValueError: an unknown name, with the nearest known one.
        """
        return replace(_SETTINGS[one_of("setting", name, _SETTINGS)], share=share)

    def initial(self, parts: _Parts, seeds: Sequence[int]) -> _Perceptrons:
        """Draw initial weights, one network a seed: N(0, 0.1²), or PyTorch's default law for images."""
        sizes = (parts.train.x.shape[2], *self.hidden, parts.train.targets.shape[1])
        return _Perceptrons.drawn(sizes, seeds, "softmax" if self.images else "sigmoid")

    def start(self, seeds: Sequence[int]) -> tuple[_Parts, _Perceptrons]:
        """Return splits of the data and one network before training, each for every seed.

        The splits are 60 : 20 : 20 by class, scaled by the training part alone.
        """
        parts = _images(self.name, seeds) if self.images else _tables(self.name, seeds)
        return parts, self.initial(parts, seeds)


# Learning rates and benchmarks of the paper's own sets are the paper's; those of the others suit small data.
_SETTINGS = {
    s.name: s
    for s in (
        Setting("iris", (6,), 0.05, 0.95, 270, 27, 200),
        Setting("wine", (6,), 0.05, 0.95, 150, 23, 200),
        Setting("breast_cancer_10", (6,), 0.01, 0.90, 50, 8, 200),
        Setting("cancer", (6,), 0.01, 0.90, 50, 12, 200),
        Setting("banknote", (8,), 0.5, 0.91, 100, 3, 250),
        Setting("vowel", (4,), 0.5, 0.80, 50, 5, 200),
        Setting("titanic", (8,), 0.1, 0.74, 50, 4, 250),
        Setting("digits", (16,), 2.0, 0.90, 36, None, 0, batch_size=16, reshuffle=True),
        Setting("mnist", (50, 30), 0.5, 0.92, 50, 5, 200, max_lag=7, batch_size=128, reshuffle=True),
    )
}


def _tables(name: str, seeds: Sequence[int]) -> _Parts:
    """Examples of S splits of a table; a test part of the set's authors (Titanic) is left aside."""
    table = load_table(name)
    n, n_classes = len(table.y), int(table.y.max()) + 1
    fifth = round(0.2 * n)
    drawn = [draw(table.y, (n - 2 * fifth, fifth, fifth), streams(seed).data) for seed in seeds]
    scales = [standardization(table.x[train], "feature") for train, *_ in drawn]
    mean, deviation = (np.stack(values)[:, None] for values in zip(*scales, strict=True))
    parts = []
    for rows in map(np.stack, zip(*drawn, strict=True)):  # (S, n)
        x = (table.x[rows] - mean) / deviation
        parts.append(_Examples.of(x, table.y[rows], n_classes if n_classes > 2 else 1))
    return _Parts(*parts)


def _images(name: str, seeds: Sequence[int]) -> _Parts:
    # as many to train as in the paper, the rest of its 42,000 to choose masks, and the official test part to test
    train, validation = (29_400, 12_600) if name == "mnist" else (None, None)
    white = 255.0 if name == "mnist" else 1.0  # the paper's code leaves MNIST's pixels at 0 to 255
    how: dict[str, Any] = {"standardize": None, "train": train, "validation": validation}
    splits = [data.load(name, seed=seed, **how) for seed in seeds]
    stacks = [data.stacked(splits, part) for part in ("train", "validation", "test")]
    return _Parts(*(_Examples.of(white * x.flatten(2).double(), y, 10) for x, y in stacks))


# --- tables ---------------------------------------------------------------------------------------------------

_Part = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True, repr=False)
class _Table:
    """A table as it was found: nothing shuffled, nothing scaled.

    Attributes:
        x: float64, ``(n, features)``.
        y: int64, ``(n,)``, classes 0 and up.
        name: as given to ``load_table``.
        checksum: SHA-256 over types, shapes and contents of ``x``, ``y`` and the test part.
        licence: of the data.
        source: where the table was found.
        test: the part that the set's authors put aside for testing, if they did.
    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    name: str
    checksum: str
    licence: str
    source: str
    test: _Part | None = None


_TABLES = pd.read_csv(Path(__file__).with_name("tables.csv"), index_col="table", keep_default_na=False)
_KNOWN: dict[Any, dict[Any, Any]] = _TABLES.to_dict("index")
"""By name: a table of scikit-learn with its columns, or files of the folder ``tabular``; licence and checksum."""


def load_table(name: str) -> _Table:
    """Load a table.

    ``iris``, ``iris_3f`` (columns 0, 2, 3), ``wine`` and ``breast_cancer_10`` (the first ten columns, the means, of the
    *diagnostic* set) come with scikit-learn. The paper's ``cancer`` (Wisconsin *original*, 683 x 9), ``banknote``,
    ``vowel`` and ``titanic`` are looked for in the folder ``tabular`` of the one that ``REPRO_DATA`` names.

    Titanic has the columns Pclass, Sex (male 1, female 0), SibSp, Parch, Fare and Embarked (S 0, C 1, Q 2, unknown
    as S). The paper gives no encoding; this one leads to the epochs that the authors' weights give. The one
    unknown fare, in the test part, is the median of the training part: what the authors took is unknown.

    Raises:
        ValueError: an unknown name.
        DataNotFoundError: the table is not on this machine; says where it belongs.
        CorruptDataError: what was found is not the table of that name.
    """
    known = _KNOWN[one_of("table", name, _KNOWN)]
    if known["columns"]:
        raw, columns = embedded(known["where"]), list(map(int, known["columns"].split()))
        parts, source = [(raw.x[:, columns].astype(np.float64), raw.y)], raw.source
    else:
        parts, source = _found(name, known["where"].split())
    checksum = fingerprint(*(array for part in parts for array in part))
    if checksum != known["sha256"]:
        wrong = f"expected sha256 {known['sha256']}, found {checksum}"
        raise CorruptDataError(f"{name!r} from {source} is not the table of that name: {wrong}")
    return _Table(*parts[0], name, checksum, known["licence"], source, *parts[1:])


def _found(name: str, files: Sequence[str]) -> tuple[list[_Part], str]:
    """The parts of one of the paper's tables, one or two, and where they are from."""
    named = os.environ.get("REPRO_DATA")
    paths = [Path(named or "", "tabular", file) for file in files]
    if named and all(path.is_file() for path in paths):
        here = "REPRO_DATA/tabular/" + ", ".join(files)
        try:
            return _parsed(*paths), here
        except (ValueError, KeyError) as error:
            raise CorruptDataError(f"cannot read {here}: {error}") from error
    needed = f"set REPRO_DATA to a folder that holds tabular/{', tabular/'.join(files)}"
    raise DataNotFoundError(f"the table {name!r} is not on this machine: {needed}")


def _numbers(cells: pd.DataFrame) -> NDArray[np.float64]:
    return cells.to_numpy(object).astype(np.float64)


def _parsed(first: Path, *others: Path) -> list[_Part]:
    """A table whose last column is the class; of Titanic the training and the test part, six columns as numbers."""
    # as text: pandas may read a number with its last bit off, which would change checksums
    train = pd.read_csv(first, header=None if first.name.startswith("binary_") else 0, dtype=str)
    if not others:
        values = _numbers(train)
        y = values[:, -1].astype(np.int64)
        return [(values[:, :-1], y - y.min())]
    test, classes = (pd.read_csv(path, dtype=str) for path in others)
    parts = []
    for frame, survived in ((train, train["Survived"]), (test, classes["Survived"])):
        columns = frame[["Pclass", "Sex", "SibSp", "Parch", "Fare", "Embarked"]].copy()
        # Of the two codings of Sex and the six of Embarked, only this pair, with unknown ports set to S, gives the
        # epochs of all five of the authors' initialisations.
        columns["Sex"] = columns["Sex"].map({"male": 1, "female": 0})
        columns["Embarked"] = columns["Embarked"].fillna("S").map({"S": 0, "C": 1, "Q": 2})
        columns["Fare"] = columns["Fare"].fillna(str(train["Fare"].astype(float).median()))
        parts.append((_numbers(columns), survived.to_numpy(object).astype(np.int64)))
    return parts
