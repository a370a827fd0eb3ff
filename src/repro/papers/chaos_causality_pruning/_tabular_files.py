"""Reading the paper's tables: four that come with no package, from the user's files or from OpenML."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from repro.learn.data import CorruptDataError, DataNotFoundError

__all__ = ["FILES", "Part", "found"]

Part = tuple[NDArray[np.float64], NDArray[np.int64]]

TITANIC_COLUMNS = ("Pclass", "Sex", "SibSp", "Parch", "Fare", "Embarked")

# The paper gives no encoding. Of the two of Sex and the six of Embarked, only this pair, with unknown ports set to
# S, gives the epochs of all five of the authors' initialisations.
SEX = {"male": 1, "female": 0}
PORT = {"S": 0, "C": 1, "Q": 2}

FILES: Mapping[str, tuple[str, ...]] = {
    "cancer": ("binary_cancer.csv",),
    "banknote": ("binary_banknote.csv",),
    "vowel": ("vowel.csv",),
    "titanic": ("titanic_train.csv", "titanic_test.csv", "titanic_testy.csv"),
}

# OpenML's number of the set, and its names of classes 0 and 1
OPENML = {"cancer": (15, ("benign", "malignant")), "banknote": (1462, ("1", "2"))}

NOT_ON_OPENML = {
    "vowel": "no data set of OpenML's is known to be this one",
    "titanic": "OpenML's Titanic does not tell Kaggle's training part from its test part",
}


def found(name: str, download: bool) -> tuple[list[Part], str]:
    """Find a table in the folder ``tabular`` of the one that ``REPRO_DATA`` names, else on OpenML.

    Returns:
        The parts, each inputs ``(n, features)`` with classes ``(n,)``, one part or two; and where they are from.

    Raises:
        DataNotFoundError: nowhere found; says which ways there are.
        CorruptDataError: found, but not a table of the expected form.
    """
    named = os.environ.get("REPRO_DATA")
    if named:
        paths = [Path(named) / "tabular" / file for file in FILES[name]]
        lacking = [path.name for path in paths if not path.is_file()]
        if not lacking:
            return _parsed(name, paths), "REPRO_DATA/tabular/" + ", ".join(FILES[name])
        if len(lacking) < len(paths):
            raise DataNotFoundError(f"REPRO_DATA/tabular lacks {', '.join(lacking)} of the {name!r} table")
    if name in NOT_ON_OPENML:
        raise DataNotFoundError(_how_to_get(name, NOT_ON_OPENML[name]))
    if not download:
        raise DataNotFoundError(_how_to_get(name, "downloading is switched off (download=False)"))
    return [_from_openml(name)], f"OpenML, data set {OPENML[name][0]}"


def _parsed(name: str, paths: list[Path]) -> list[Part]:
    try:
        if name == "titanic":
            return _titanic(*paths)
        return [_last_column_is_class(paths[0], header=name == "vowel", first_class=int(name == "vowel"))]
    except (ValueError, KeyError) as error:
        files = ", ".join(FILES[name])
        raise CorruptDataError(f"cannot read REPRO_DATA/tabular/{files}: {error}") from error


def _csv(path: Path, header: bool = True) -> pd.DataFrame:
    # as text: pandas may read a number with its last bit off, which would change checksums
    return pd.read_csv(path, header=0 if header else None, dtype=str)


def _numbers(cells: pd.DataFrame | pd.Series) -> NDArray[np.float64]:
    return cells.to_numpy(object).astype(np.float64)


def _last_column_is_class(path: Path, *, header: bool, first_class: int) -> Part:
    values = _numbers(_csv(path, header))
    return _checked(values[:, :-1], values[:, -1] - first_class)


def _checked(x: NDArray[np.float64], y: NDArray[np.float64]) -> Part:
    if not np.isfinite(x).all():
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"row {row}, column {column} holds no number")
    if not (good := (y >= 0) & (y == np.floor(y))).all():
        raise ValueError(f"row {np.flatnonzero(~good)[0]} holds no class")
    return np.ascontiguousarray(x), y.astype(np.int64)


def _titanic(train: Path, test: Path, test_classes: Path) -> list[Part]:
    frames = _csv(train), _csv(test)
    classes = _csv(test_classes)
    if frames[1]["PassengerId"].tolist() != classes["PassengerId"].tolist():
        raise ValueError("the passengers of the test part are not those of the file with their classes")
    median_fare = float(np.nanmedian(_numbers(frames[0]["Fare"])))
    survived = frames[0]["Survived"], classes["Survived"]
    return [
        _checked(_encoded(frame, median_fare), _numbers(y)) for frame, y in zip(frames, survived, strict=True)
    ]


def _encoded(frame: pd.DataFrame, median_fare: float) -> NDArray[np.float64]:
    """Turn the paper's six columns into numbers; an unknown port counts as S, an unknown fare as the median."""
    columns = frame[list(TITANIC_COLUMNS)].copy()
    columns["Sex"] = columns["Sex"].map(SEX)
    columns["Embarked"] = columns["Embarked"].fillna("S").map(PORT)
    x = _numbers(columns)
    fare = x[:, TITANIC_COLUMNS.index("Fare")]
    fare[np.isnan(fare)] = median_fare
    return x


def _from_openml(name: str) -> Part:
    from sklearn.datasets import fetch_openml

    number, names = OPENML[name]
    try:
        # liac-arff reads every number to the last bit, scikit-learn's pandas parser may not
        x, labels = fetch_openml(
            data_id=number, return_X_y=True, as_frame=False, parser="liac-arff", n_retries=1
        )
    except (OSError, ValueError) as error:
        raise DataNotFoundError(_how_to_get(name, f"the download from OpenML failed ({error})")) from error
    x = np.asarray(x, dtype=np.float64)
    whole = np.isfinite(x).all(1)
    if strange := set(labels) - set(names):
        raise CorruptDataError(
            f"OpenML's data set {number} has the classes {', '.join(names)}; found {strange}"
        )
    return np.ascontiguousarray(x[whole]), np.array([names.index(label) for label in labels[whole]])


def _how_to_get(name: str, failure: str) -> str:
    ways = [f"set REPRO_DATA to a folder that holds tabular/{', tabular/'.join(FILES[name])}"]
    if name in OPENML:
        ways.append(f"load it once with a network and download=True: OpenML has it as {OPENML[name][0]}")
    listed = "".join(f"\n  {i}. {way};" for i, way in enumerate(ways, 1))
    return f"the table {name!r} is not on this machine: {failure}. To get it:{listed[:-1]}."
