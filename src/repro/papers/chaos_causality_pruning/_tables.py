"""The chapter's tables as they are found, with checksum, licence and source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repro.base import unknown
from repro.learn._sources import embedded, fingerprint
from repro.learn.data import CorruptDataError
from repro.papers.chaos_causality_pruning._tabular_files import TITANIC_COLUMNS, Part, found

__all__ = ["IRIS_3F", "NAMES", "Table", "load_table"]


@dataclass(frozen=True, repr=False)
class Table:
    """A table as it was found: nothing shuffled, nothing scaled.

    Attributes:
        x: float64, ``(n, features)``.
        y: int64, ``(n,)``, classes 0 and up.
        feature_names: one a column.
        name: as given to ``load_table``.
        checksum: SHA-256 over types, shapes and contents of ``x``, ``y`` and the test part.
        licence: of the data.
        source: where the table was found.
        test: the part that the set's authors put aside for testing, if they did.
    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]
    feature_names: tuple[str, ...]
    name: str
    checksum: str
    licence: str
    source: str
    test: Part | None = None

    def __repr__(self) -> str:
        n, n_features = self.x.shape
        aside = f", {len(self.test[1])} more to test" if self.test is not None else ""
        n_classes = int(self.y.max()) + 1
        return f"Table({self.name}: {n} examples{aside} of {n_features}, {n_classes} classes; {self.licence})"


@dataclass(frozen=True)
class _Known:
    """What is known of a table before it is read; ``columns`` are those of scikit-learn's ``base``."""

    checksum: str
    licence: str
    features: tuple[str, ...] | None = None
    base: str | None = None
    columns: tuple[int, ...] | None = None


_UCI = "CC BY 4.0 (UCI Machine Learning Repository)"
_CELLS = ("clump thickness", "uniformity of cell size", "uniformity of cell shape", "marginal adhesion")
_NUCLEI = ("single epithelial cell size", "bare nuclei", "bland chromatin", "normal nucleoli", "mitoses")

IRIS_3F = (0, 2, 3)

_CATALOGUE = {
    "iris": _Known("c9a2400f2744c466f25fc58b4d20189fc9c0d69af2ff3b5df83fdd06653b7dd1", _UCI, base="iris"),
    "iris_3f": _Known(
        "036bcdaf9035f034f6146ef09d57b71526acd80f9052521e16f5be345f13bd74",
        _UCI,
        base="iris",
        columns=IRIS_3F,
    ),
    "wine": _Known("56bb2e6fadbd20a1e7eac5848ff988c1843f2cadbdaaf295967c75e7b12dfe70", _UCI, base="wine"),
    "breast_cancer": _Known(
        "bad1f701395a84df5424ae2f8e08bdfa835c36aeb29d785dc2fb5c863f299450", _UCI, base="breast_cancer"
    ),
    "breast_cancer_10": _Known(
        "0727f52c87bdd6d31584699c62835a9a061718611e7354f9711f97c0ecc872ac",
        _UCI,
        base="breast_cancer",
        columns=tuple(range(10)),
    ),
    "digits": _Known("0b3e4ee14f82503950f2fd8375b2e78056c1dd5ef2cb04e4cd0cc4827c0e6bb6", _UCI, base="digits"),
    "cancer": _Known(
        "2ec1b977efff908c818f67e9110bcaecfd7e80902a7564e8657c0a1eb030b029", _UCI, _CELLS + _NUCLEI
    ),
    "banknote": _Known(
        "6717f752b8382fbedd3ed4bc410e8c72bef1b0d30c3b49579580561eb6f816f1",
        _UCI,
        ("variance", "skewness", "curtosis", "entropy"),
    ),
    "vowel": _Known(
        "80264fd8ce75915f070b6760eedb5b97081ef287683237519a3afef117dcb631",
        "no licence stated; S. K. Pal and D. Dutta Majumder (1977)",
        ("F1", "F2", "F3"),
    ),
    "titanic": _Known(
        "488df986edc1b3b3ce7e05b870e97d9917f564b701b05b9c8c014d7610db2e58",
        "no licence stated; Kaggle's competition Titanic",
        TITANIC_COLUMNS,
    ),
}

NAMES = tuple(_CATALOGUE)


def load_table(name: str, *, download: bool = True) -> Table:
    """Load a table.

    ``iris``, ``iris_3f`` (columns 0, 2, 3), ``wine``, ``breast_cancer`` (the *diagnostic* set, 569 x 30),
    ``breast_cancer_10`` (its first ten columns, the means) and ``digits`` come with scikit-learn. The paper's
    ``cancer`` (Wisconsin *original*, 683 x 9), ``banknote``, ``vowel`` and ``titanic`` are looked for in the folder
    ``tabular`` of the one that ``REPRO_DATA`` names; then the first two on OpenML.

    Titanic has the columns Pclass, Sex (male 1, female 0), SibSp, Parch, Fare and Embarked (S 0, C 1, Q 2, unknown
    as S). The paper gives no encoding; this one leads to the epochs that the authors' weights give. The one
    unknown fare, in the test part, is the median of the training part: what the authors took is unknown.

    Args:
        name: one of ``NAMES``.
        download: whether a table may be downloaded.

    Raises:
        ValueError: an unknown name.
        DataNotFoundError: the table is not on this machine; says the ways to get it.
        CorruptDataError: what was found is not the table of that name.
    """
    if name not in _CATALOGUE:
        raise ValueError(unknown("table", name, NAMES))
    known = _CATALOGUE[name]
    if known.base is None:
        parts, source = found(name, download)
        assert known.features is not None
        features = known.features
    else:
        raw = embedded(known.base)
        columns = list(known.columns or range(raw.x[0].size))
        x = raw.x.reshape(len(raw.x), -1)[:, columns].astype(np.float64)
        parts, source = [(x, raw.y)], raw.source
        features = tuple(_feature_names(known.base)[c] for c in columns)
    checksum = fingerprint(*(array for part in parts for array in part))
    if checksum != known.checksum:
        raise CorruptDataError(
            f"{name!r} from {source} is not the table of that name: "
            f"expected sha256 {known.checksum}, found {checksum}"
        )
    test = parts[1] if len(parts) == 2 else None
    return Table(*parts[0], features, name, checksum, known.licence, source, test)


def _feature_names(base: str) -> list[str]:
    from sklearn import datasets

    return [str(name) for name in getattr(datasets, f"load_{base}")().feature_names]
