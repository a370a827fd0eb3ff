"""Tables as they are found, from scikit-learn and files; honest splits; settings."""

from pathlib import Path

import numpy as np
import pytest

from repro.learn import CorruptDataError, DataNotFoundError
from repro.papers.chaos_causality_pruning import settings
from repro.papers.chaos_causality_pruning.settings import Setting, _Table, load_table

CANCER = "5,1,1,1,2,1,3,1,1,0\n8,10,10,8,7,10,9,7,1,1\n"
VOWEL = "F1,F2,F3,Y\r\n700,1500,2600,1\r\n550,1550.0625,2400,6\r\n"
TRAIN = """PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked
1,0,3,"Roe, Mr. Richard",male,22,1,0,A/5 1,7.25,,S
2,1,1,"Doe, Miss. Jane",female,,0,2,PC 1,71.2833,C85,C
3,1,2,"Doe, Mrs. John (Ann)",female,62,0,0,1,80,B28,
"""
TEST = """PassengerId,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked
892,3,"Poe, Mr. James",male,34.5,0,0,330911,,,Q
"""
TEST_CLASSES = "PassengerId,Survived\n892,1\n"


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A folder for the paper's files."""
    monkeypatch.setenv("REPRO_DATA", str(tmp_path))
    (tmp_path / "tabular").mkdir()
    return tmp_path / "tabular"


def put(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.csv").write_bytes(text.encode())


def accept(monkeypatch, name: str) -> _Table:
    """Load a made-up table as if its contents were the expected ones."""
    with pytest.raises(CorruptDataError, match=f"{name}.*is not the table of that name") as refusal:
        load_table(name)
    monkeypatch.setitem(settings._KNOWN[name], "sha256", str(refusal.value).split()[-1])
    return load_table(name)


def test_files_are_parsed_and_titanic_has_a_test_part(data, monkeypatch):
    put(data, binary_cancer=CANCER, vowel=VOWEL)
    put(data, titanic_train=TRAIN, titanic_test=TEST, titanic_testy=TEST_CLASSES)
    cancer = accept(monkeypatch, "cancer")
    assert cancer.x.tolist() == [[5, 1, 1, 1, 2, 1, 3, 1, 1], [8, 10, 10, 8, 7, 10, 9, 7, 1]]
    assert cancer.y.tolist() == [0, 1]
    assert cancer.source == "REPRO_DATA/tabular/binary_cancer.csv"
    vowel = accept(monkeypatch, "vowel")
    assert vowel.x.tolist() == [[700, 1500, 2600], [550, 1550.0625, 2400]]
    assert vowel.y.tolist() == [0, 5]
    titanic = accept(monkeypatch, "titanic")
    # male 1, female 0; S 0, C 1, Q 2; an unknown port is S, an unknown fare the median of 7.25, 71.2833 and 80
    assert titanic.x.tolist() == [[3, 1, 1, 0, 7.25, 0], [1, 0, 0, 2, 71.2833, 1], [2, 0, 0, 0, 80, 0]]
    assert titanic.y.tolist() == [0, 1, 1]
    x, y = titanic.test
    assert x.tolist() == [[3, 1, 0, 0, 71.2833, 2]]
    assert y.tolist() == [1]


def test_a_damaged_table_and_one_that_is_not_there_are_refused(data):
    put(data, vowel="F1,F2,F3,Y\n700,a,2600,1\n", titanic_train=TRAIN)  # one of Titanic's three is not enough
    with pytest.raises(CorruptDataError, match="cannot read"):
        load_table("vowel")
    with pytest.raises(DataNotFoundError, match=r"'titanic' is not.*tabular/titanic_testy.csv"):
        load_table("titanic")


def test_splits_are_of_each_seed_by_itself_and_scaled_by_the_training_part():
    train, _, test = Setting.named("wine").start([0, 1])[0]
    assert train.x.shape == (2, 106, 13)
    np.testing.assert_allclose(train.x.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(train.x.std(1, correction=0), 1, atol=1e-12)
    assert abs(test.x.mean(1)).max() > 0.01
    assert np.array_equal(test.x[1], Setting.named("wine").start([1])[0].test.x[0])
    assert not np.array_equal(test.y[0], test.y[1])


def test_images_are_pixels_between_0_and_1_in_a_new_order_and_end_in_a_softmax():
    parts, networks = Setting.named("digits").start([0, 1])
    assert (float(parts.train.x.min()), float(parts.train.x.max())) == (0, 1)
    assert ([*networks.weights[0].shape], networks.head) == ([2, 16, 64], "softmax")
    assert Setting.named("digits").how["reshuffle"]
    assert not Setting.named("iris").how["reshuffle"]
