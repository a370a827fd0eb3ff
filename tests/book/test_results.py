"""Results on disk: canonical, whole or absent, and comparable."""

import json

import pytest
from ledger_book import make, result

from repro.book import claims, results
from repro.book.errors import BadInput


@pytest.fixture
def book(tmp_path):
    return make(tmp_path)


def test_round_trip(book):
    path = book.results_file("toy", "quick")
    results.write(path, result(book))
    assert results.as_text(results.read(path)) == path.read_text()
    assert results.read(path).claims == result(book).claims


def test_the_file_is_canonical(book):
    text = results.as_text(result(book))
    content = json.loads(text)
    assert list(content) == ["chapter", "claims", "profile", "provenance", "schema", "run"]
    assert content["claims"]["T1"]["tests"]["falls"]["values"][0] == 0.123457
    assert content["provenance"]["parameters"]["rate"] == 0.123456789  # what was asked for stays exact
    backwards = result(book, claims=dict(reversed(result(book).claims.items())))
    assert results.as_text(backwards) == text


def test_only_the_last_block_differs_between_two_equal_runs(book):
    one = results.as_text(result(book)).splitlines()
    two = results.as_text(result(book, run=result(book).run | {"seconds": 9.0})).splitlines()
    differ = [number for number, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    assert min(differ) > one.index('  "run": {')


@pytest.mark.parametrize("text", ["", '{"schema": 1', "[]", '{"schema": 2}', "\udcff"])
def test_a_broken_file_gives_one_line(tmp_path, text):
    path = tmp_path / "toy.quick.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match=r"^toy\.quick\.json is broken.*$"):
        results.read(path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"schema": 1', '"schema": 2', "schema: found 2"),
        ('"verdict": "reproduced"', '"verdict": "proven"', "tests.falls.verdict: found 'proven'"),
        ('"estimate": ', '"estimat": 1, "estimate": ', "unknown key"),
        ('"low": 0.0958', '"low": NaN, "x": 0.0958', "broken"),
        ('"low": 0.0958', '"low": NaN, "p": 0.0958', "low: found nan"),
    ],
)
def test_an_edited_file_gives_one_line(book, old, new, expected):
    path = book.root / "toy.quick.json"
    text = results.as_text(result(book))
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput) as error:
        results.read(path)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_what_cannot_be_written_leaves_the_old_result(book):
    path = book.results_file("toy", "quick")
    results.write(path, result(book))
    before = path.read_bytes()
    with pytest.raises(BadInput, match="cannot be written"):
        results.write(path, result(book, run={"seconds": float("nan")}))
    assert path.read_bytes() == before


def test_a_verdict_that_turns_is_told_with_both_values(book):
    old, new = result(book), result(book, t1=[0.9, 0.91, 0.92])
    assert results.compare(old, old) == []
    assert results.compare(old, new) == [
        "T1: was reproduced, is now not reproduced (falls: was 0.121 [0.0958, 0.146] reproduced, "
        "is now 0.91 [0.885, 0.935] not reproduced)"
    ]


def test_a_claim_that_vanishes_is_a_change_and_a_new_one_is_not(book):
    old = result(book)
    fewer = result(book, claims={key: one for key, one in old.claims.items() if key != "T1"})
    assert results.compare(old, fewer) == ["T1: was reproduced, is no longer in the result"]
    assert results.compare(fewer, old) == []
    with pytest.raises(BadInput, match="cannot be compared"):
        results.compare(old, result(book, profile="paper"))


def test_disagreements_with_the_claims(book):
    chapter, good = claims.load(book.claims_file("toy")), result(book)
    assert results.disagreements(chapter, good) == []
    edited = good.claims["T1"].model_copy(update={"verdict": "not reproduced"})
    wrong = result(book, claims={"T1": edited, "T3": good.claims["T3"], "T9": edited})
    assert sorted(results.disagreements(chapter, wrong)) == [
        "T1: stored as not reproduced, but its values say reproduced",
        "T2: has no result yet",
        "T9: in the result, but not in the claims",
    ]
