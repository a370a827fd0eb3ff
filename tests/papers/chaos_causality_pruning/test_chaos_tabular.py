"""The chapter's tables: parsing, checksums, splits, and the authors' runs to the epoch."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from sklearn.preprocessing import StandardScaler

from repro.learn.data import CorruptDataError, DataNotFoundError
from repro.papers.chaos_causality_pruning import _tables, _tabular_files
from repro.papers.chaos_causality_pruning.tabular import (
    NAMES,
    Table,
    authors_initial_weights,
    authors_split,
    honest_split,
    load_table,
)

DATA = os.environ.get("REPRO_DATA")

PAPER_FILES = ("cancer", "banknote", "vowel", "titanic")
EMBEDDED = {
    "iris": (150, 4, 3),
    "iris_3f": (150, 3, 3),
    "wine": (178, 13, 3),
    "breast_cancer": (569, 30, 2),
    "breast_cancer_10": (569, 10, 2),
    "digits": (1797, 64, 10),
}
CANCER = "5,1,1,1,2,1,3,1,1,0\n8,10,10,8,7,10,9,7,1,1\n"
BANKNOTE = "3.6216,8.6661,-2.8073,-0.44699,0\n-1.5,0.25,3.125,0.0625,1\n"
VOWEL = "F1,F2,F3,Y\r\n700,1500,2600,1\r\n550,1550,2400,6\r\n"
TRAIN = """PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked
1,0,3,"Roe, Mr. Richard",male,22,1,0,A/5 1,7.25,,S
2,1,1,"Doe, Miss. Jane",female,,0,2,PC 1,71.2833,C85,C
3,1,2,"Doe, Mrs. John (Ann)",female,62,0,0,1,80,B28,
"""
TEST = """PassengerId,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked
892,3,"Poe, Mr. James",male,34.5,0,0,330911,,,Q
"""
TEST_CLASSES = "PassengerId,Survived\n892,1\n"


def table(x, y, name="made", test=None) -> Table:
    names = tuple(f"x{i}" for i in range(x.shape[1]))
    return Table(np.asarray(x, float), np.asarray(y, np.int64), names, name, "0" * 64, "ours", "here", test)


def put(folder: Path, **files: str) -> None:
    (folder / "tabular").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "tabular" / f"{name}.csv").write_bytes(text.encode())


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    return tmp_path


# --- tables that come with scikit-learn -----------------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_tables_have_their_shape_and_describe_themselves(name):
    one = load_table(name)
    n, features, classes = EMBEDDED[name]
    assert one.x.shape == (n, features)
    assert one.x.dtype == np.float64
    assert one.y.dtype == np.int64
    assert np.array_equal(np.unique(one.y), np.arange(classes))
    assert len(one.feature_names) == features
    assert re.fullmatch("[0-9a-f]{64}", one.checksum)
    assert one.test is None
    assert "CC BY" in one.licence


def test_columns_of_the_smaller_tables():
    assert np.array_equal(load_table("iris_3f").x, load_table("iris").x[:, [0, 2, 3]])
    ten = load_table("breast_cancer_10")
    assert all(name.startswith("mean ") for name in ten.feature_names)
    assert np.array_equal(ten.x, sklearn.datasets.load_breast_cancer().data[:, :10])


def test_a_table_can_stand_in_the_books_list_of_data_sets():
    from repro.book.datasets import table as listed

    iris = load_table("iris")
    assert iris.checksum in repr(listed(iris))


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match="'Iris-3F'; did you mean 'iris_3f'"):
        load_table("Iris-3F")


# --- the paper's files ----------------------------------------------------------------------------------------


def accept(monkeypatch, name: str) -> Table:
    """Load a made-up table as if its contents were the expected ones."""
    with pytest.raises(CorruptDataError, match=f"{name}.*is not the table of that name") as refusal:
        load_table(name)
    found = str(refusal.value).split()[-1]
    known = _tables._CATALOGUE[name]
    monkeypatch.setitem(_tables._CATALOGUE, name, type(known)(**(vars(known) | {"checksum": found})))
    return load_table(name)


def test_files_of_one_table_are_parsed(data, monkeypatch):
    put(data, binary_cancer=CANCER, binary_banknote=BANKNOTE, vowel=VOWEL)
    cancer = accept(monkeypatch, "cancer")
    assert cancer.x.tolist() == [[5, 1, 1, 1, 2, 1, 3, 1, 1], [8, 10, 10, 8, 7, 10, 9, 7, 1]]
    assert cancer.y.tolist() == [0, 1]
    assert cancer.source == "REPRO_DATA/tabular/binary_cancer.csv"
    banknote = accept(monkeypatch, "banknote")
    assert banknote.x.tolist() == [[3.6216, 8.6661, -2.8073, -0.44699], [-1.5, 0.25, 3.125, 0.0625]]
    vowel = accept(monkeypatch, "vowel")
    assert vowel.x.tolist() == [[700, 1500, 2600], [550, 1550, 2400]]
    assert vowel.y.tolist() == [0, 5]


def test_titanic_is_parsed_with_its_test_part(data, monkeypatch):
    put(data, titanic_train=TRAIN, titanic_test=TEST, titanic_testy=TEST_CLASSES)
    titanic = accept(monkeypatch, "titanic")
    assert titanic.feature_names == ("Pclass", "Sex", "SibSp", "Parch", "Fare", "Embarked")
    # male 1, female 0; S 0, C 1, Q 2; an unknown port is S, an unknown fare the median of 7.25, 71.2833 and 80
    assert titanic.x.tolist() == [[3, 1, 1, 0, 7.25, 0], [1, 0, 0, 2, 71.2833, 1], [2, 0, 0, 0, 80, 0]]
    assert titanic.y.tolist() == [0, 1, 1]
    x, y = titanic.test
    assert x.tolist() == [[3, 1, 0, 0, 71.2833, 2]]
    assert y.tolist() == [1]


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("vowel", {"vowel": "F1,F2,F3,Y\n700,,2600,1\n"}, "row 0, column 1 holds no number"),
        ("vowel", {"vowel": "F1,F2,F3,Y\n700,a,2600,1\n"}, "cannot read REPRO_DATA/tabular/vowel.csv"),
        ("vowel", {"vowel": "F1,F2,F3,Y\n700,800,2600,0.5\n"}, "row 0 holds no class"),
        (
            "titanic",
            {"titanic_train": TRAIN, "titanic_test": TEST, "titanic_testy": "PassengerId,Survived\n893,1\n"},
            "the passengers of the test part",
        ),
        (
            "titanic",
            {"titanic_train": TRAIN.replace("Sex", "sex"), "titanic_test": TEST}
            | {"titanic_testy": TEST_CLASSES},
            "Sex",
        ),
    ],
)
def test_damaged_files_are_refused(data, name, files, message):
    put(data, **files)
    with pytest.raises(CorruptDataError, match=message):
        load_table(name)


def test_some_of_several_files_are_not_enough(data):
    put(data, titanic_train=TRAIN)
    with pytest.raises(DataNotFoundError, match=r"lacks titanic_test\.csv, titanic_testy\.csv"):
        load_table("titanic")


@pytest.mark.parametrize("name", PAPER_FILES)
def test_a_table_that_is_nowhere_names_the_ways_to_it(data, name):
    with pytest.raises(DataNotFoundError, match=f"'{name}' is not on this machine") as refusal:
        load_table(name, download=False)
    assert f"tabular/{_tabular_files.FILES[name][-1]}" in str(refusal.value)
    assert ("OpenML has it" in str(refusal.value)) == (name in ("cancer", "banknote"))


# --- OpenML ---------------------------------------------------------------------------------------------------


def test_openml_rows_with_missing_values_are_dropped(data, monkeypatch):
    asked = {}

    def fetch(**options):
        asked.update(options)
        x = np.array([[5.0] * 9, [1, 2, 3, 4, 5, np.nan, 7, 8, 9], [2.0] * 9])
        return x, np.array(["malignant", "benign", "benign"], dtype=object)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    cancer = accept(monkeypatch, "cancer")
    assert asked["data_id"] == 15
    assert cancer.x.tolist() == [[5] * 9, [2] * 9]
    assert cancer.y.tolist() == [1, 0]
    assert cancer.source == "OpenML, data set 15"


def test_other_classes_from_openml_are_refused(data, monkeypatch):
    monkeypatch.setattr(
        sklearn.datasets, "fetch_openml", lambda **_: (np.ones((2, 4)), np.array(["1", "3"], dtype=object))
    )
    with pytest.raises(CorruptDataError, match=r"has the classes 1, 2; found \{'3'\}"):
        load_table("banknote")


def test_a_failed_download_is_a_table_not_found(data, monkeypatch):
    def fetch(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    with pytest.raises(DataNotFoundError, match="no route to host"):
        load_table("banknote")


# --- the authors' split ---------------------------------------------------------------------------------------


def test_iris_is_split_as_the_authors_do_it():
    split = authors_split(load_table("iris"))
    assert (split.x_train.shape, split.x_test.shape) == ((120, 4), (30, 4))
    order = np.random.RandomState(42).permutation(150)
    assert np.array_equal(np.concatenate([split.y_train, split.y_test]), load_table("iris").y[order])


def test_two_rows_of_iris_have_the_values_of_the_authors_file():
    raw = load_table("iris").x.copy()
    assert raw[9].tolist() == [4.9, 3.1, 1.5, 0.1]
    assert not (raw[[34, 37]] == raw[9]).all(1).any()
    raw[[34, 37]] = raw[9]
    raw = raw[np.random.RandomState(42).permutation(150)]
    for name, columns in (("iris", [0, 1, 2, 3]), ("iris_3f", [0, 2, 3])):
        split = authors_split(load_table(name))
        for found, expected in ((split.x_train, raw[:120]), (split.x_test, raw[120:])):
            np.testing.assert_allclose(
                found, StandardScaler().fit_transform(expected[:, columns]), atol=1e-12
            )


def test_binary_tables_are_standardized_by_example_and_constant_ones_are_zero():
    x = np.random.default_rng(0).normal(5, 3, (683, 9))
    x[:4] = np.array([[1.0], [2.0], [0.1], [7.0]])
    split = authors_split(table(x, np.arange(683), "cancer"))
    both = np.concatenate([split.x_train, split.x_test])[np.argsort(np.r_[split.y_train, split.y_test])]
    assert np.array_equal(both[:4], np.zeros((4, 9)))
    np.testing.assert_allclose(both[4:].mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(both[4:].std(1), 1, atol=1e-12)
    assert len(split.y_train) == 546


def test_titanic_keeps_its_test_part_and_its_order():
    rng = np.random.default_rng(1)
    x, test = rng.normal(size=(891, 6)), rng.normal(size=(418, 6))
    split = authors_split(table(x, np.arange(891), "titanic", (test, np.arange(418))))
    assert sorted(split.y_train) == list(range(891))
    assert np.array_equal(split.y_test, np.arange(418))
    np.testing.assert_allclose(
        split.x_test, (test - test.mean(1)[:, None]) / test.std(1)[:, None], atol=1e-12
    )


def test_vowel_fills_the_unit_range_in_both_parts():
    x = np.random.default_rng(2).integers(300, 2500, (871, 3))
    split = authors_split(table(x, np.arange(871) % 6, "vowel"))
    assert (len(split.x_train), len(split.x_test)) == (741, 130)
    for part in (split.x_train, split.x_test):
        assert part.min(0).tolist() == [0] * 3
        assert part.max(0).tolist() == [1] * 3


def test_tables_that_the_authors_did_not_use_are_refused():
    with pytest.raises(ValueError, match="got 'wine'"):
        authors_split(load_table("wine"))
    with pytest.raises(ValueError, match="got 'wine'"):
        authors_initial_weights("wine")
    with pytest.raises(ValueError, match="their generator is unknown"):
        authors_initial_weights("vowel")
    with pytest.raises(ValueError, match="1 or more; got 0"):
        authors_initial_weights("iris", 0)


# --- the authors' runs, to the epoch --------------------------------------------------------------------------

# epochs from 0 of the dense network, trials 1 to 5, and the printed trial's number with its test accuracy
ANCHORS = {
    "iris": (0.05, 0.95, [162, 188, 196, 154, 182], 5, 0.9000),
    "iris_3f": (0.05, 0.95, [138, 139, 208, 121, 151], 2, 0.9000),
    "cancer": (0.01, 0.90, [76, 70, 68, 71, 33], 2, 0.8759),
    "titanic": (0.1, 0.74, [43, 40, 44, 34, 38], 1, 0.7225),
    "banknote": (0.5, 0.91, [8, 7, 7, 9, 6], 4, 0.9018),
}


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def epochs_to(benchmark, learning_rate, split, trials, n_outputs):
    """Train all trials side by side, an example a step; epochs and test accuracies at the benchmark."""
    w1, b1, w2, b2 = (np.stack(arrays) for arrays in zip(*trials, strict=True))
    one_hot = np.eye(n_outputs) if n_outputs > 1 else np.array([[0.0], [1.0]])
    t_train, t_test = one_hot[split.y_train], one_hot[split.y_test]

    def accuracy(x, t):
        out = sigmoid(w2 @ sigmoid(w1 @ x.T + b1) + b2)
        return ((out > 0.5) == (t.T > 0.5)).all(1).mean(1)

    epochs, accuracies = np.full(len(trials), -1), np.full(len(trials), np.nan)
    for epoch in range(250):
        for x, t in zip(split.x_train[:, :, None], t_train[:, :, None], strict=True):
            h = sigmoid(w1 @ x + b1)
            o = sigmoid(w2 @ h + b2)
            delta = 2 / n_outputs * (o - t) * o * (1 - o)
            below = (w2.transpose(0, 2, 1) @ delta) * h * (1 - h)
            w2 -= learning_rate * delta @ h.transpose(0, 2, 1)
            b2 -= learning_rate * delta
            w1 -= learning_rate * below @ x.T
            b1 -= learning_rate * below
        new = (accuracy(split.x_train, t_train) >= benchmark) & (epochs < 0)
        epochs[new], accuracies[new] = epoch, accuracy(split.x_test, t_test)[new]
        if (epochs >= 0).all():
            break
    return epochs.tolist(), accuracies


def use_data_at_hand(monkeypatch):
    """The folder that REPRO_DATA named before the tests' own settings, or a skip."""
    if DATA is None:
        pytest.skip("REPRO_DATA names no folder with the paper's tables")
    monkeypatch.setenv("REPRO_DATA", DATA)


@pytest.mark.parametrize("name", ANCHORS)
def test_the_authors_runs_come_back_to_the_epoch(name, monkeypatch):
    if name in PAPER_FILES:
        use_data_at_hand(monkeypatch)
    try:
        found = load_table(name, download=False)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    learning_rate, benchmark, expected, printed, accuracy = ANCHORS[name]
    trials = authors_initial_weights(name, 5)
    n_outputs = len(trials[0][2])
    epochs, accuracies = epochs_to(benchmark, learning_rate, authors_split(found), trials, n_outputs)
    assert epochs == expected
    assert accuracies[printed - 1] == pytest.approx(accuracy, abs=5e-5)


def test_more_trials_go_on_with_the_same_stream():
    few, many = authors_initial_weights("banknote", 2), authors_initial_weights("banknote", 3)
    assert all(
        np.array_equal(a, b)
        for one, two in zip(few, many, strict=False)
        for a, b in zip(one, two, strict=True)
    )
    assert [w.shape for w in many[0]] == [(8, 4), (8, 1), (1, 8), (1, 1)]
    assert not np.array_equal(many[1][0], many[2][0])


# --- the honest split -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_honest_split_holds_every_example_once(name):
    one = load_table(name)
    rows = np.random.default_rng(3).permutation(len(one.y)).astype(float)
    # the row's number as a feature, so that a row can be followed; its scaling is undone below
    marked = table(np.c_[rows, one.x], one.y)
    split = honest_split(marked, 4)
    parts = [split.x_train, split.x_validation, split.x_test]
    n = len(one.y)
    assert [len(p) for p in parts] == [n - 2 * round(n / 5), round(n / 5), round(n / 5)]
    places = np.argsort(np.concatenate([p[:, 0] for p in parts]))
    classes = np.concatenate([split.y_train, split.y_validation, split.y_test])[places]
    assert np.array_equal(classes, one.y[np.argsort(rows)])


def test_an_honest_split_keeps_shares_of_classes_and_scales_by_the_training_part():
    split = honest_split(load_table("wine"), 0)
    np.testing.assert_allclose(split.x_train.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(split.x_train.std(0), 1, atol=1e-12)
    assert abs(split.x_test.mean(0)).max() > 0.01
    overall = np.bincount(load_table("wine").y) / 178
    for y in (split.y_train, split.y_validation, split.y_test):
        assert abs(np.bincount(y) - overall * len(y)).max() <= 1


def test_digits_are_divided_by_sixteen():
    split = honest_split(load_table("digits"), 0)
    assert split.x_train.min() == 0
    assert split.x_train.max() == 1
    assert np.array_equal(split.x_test * 16, np.round(split.x_test * 16))


def test_a_split_depends_on_its_seed_alone():
    iris = load_table("iris")
    first, again, other = honest_split(iris, 1), honest_split(iris, 1), honest_split(iris, 2)
    assert np.array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.y_test, other.y_test)
    with pytest.raises(ValueError, match="-1"):
        honest_split(iris, -1)


@pytest.mark.parametrize("name", PAPER_FILES)
def test_the_papers_files_are_the_expected_ones(name, monkeypatch):
    use_data_at_hand(monkeypatch)
    try:
        one = load_table(name, download=False)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    shapes = {"cancer": (683, 9), "banknote": (1372, 4), "vowel": (871, 3), "titanic": (891, 6)}
    assert one.x.shape == shapes[name]
    counts = {"cancer": [444, 239], "banknote": [762, 610], "vowel": [72, 89, 172, 151, 207, 180]}
    assert np.bincount(one.y).tolist() == counts.get(name, [549, 342])
    assert name in NAMES
    if name == "titanic":
        assert one.test is not None
        assert one.test[0].shape == (418, 6)
