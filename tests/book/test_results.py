"""Results on disk: canonical, whole or absent, and comparable."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_book import make

from repro.book import claims, results
from repro.book.errors import BadInput

V = [0.123456789, 0.13, 0.11]


@pytest.fixture
def book(tmp_path):
    return make(tmp_path)


def result(book, t1=V, t2=(1.0, 1.1, 1.2), profile="quick", **changes):
    chapter = claims.load(book.claims_file("toy"))
    measurements = [
        {"claim": "T1", "test": "falls", "values": list(t1)},
        {"claim": "T2", "test": "first", "values": list(t2)},
        {"claim": "T2", "test": "second", "values": list(t2)},
    ]
    given = {
        "chapter": "toy",
        "profile": profile,
        "claims": claims.judge(chapter, measurements, {}, profile),
        "provenance": {"commit": "abc", "versions": {"torch": "2"}, "parameters": {"rate": 0.123456789}},
        "run": {"seconds": 1.23456789, "finished": "2026-01-01T00:00:00"},
    }
    return results.Results(**(given | changes))


def test_round_trip(book):
    path = book.results_file("toy", "quick")
    results.write(path, result(book))
    again = results.read(path)
    assert again == results.read(path)
    assert results.as_text(again) == path.read_text()
    assert again.claims == result(book).claims


def test_the_file_is_canonical(book):
    text = results.as_text(result(book))
    content = json.loads(text)
    assert list(content) == ["chapter", "claims", "profile", "provenance", "schema", "run"]
    assert content["claims"]["T1"]["tests"]["falls"]["values"][0] == 0.123457
    assert set(content["claims"]["T1"]["tests"]["falls"]) == {
        *("values", "estimate", "low", "high", "p", "p_holm", "verdict", "reason")
    }
    assert content["run"]["seconds"] == 1.23457
    assert content["provenance"]["parameters"]["rate"] == 0.123456789  # what was asked for stays exact
    backwards = result(book, claims=dict(reversed(result(book).claims.items())))
    assert results.as_text(backwards) == text


def test_only_the_last_block_differs_between_two_equal_runs(book):
    one = results.as_text(result(book)).splitlines()
    two = results.as_text(result(book, run={"seconds": 9.0, "finished": "2026-02-02T00:00:00"})).splitlines()
    differ = [number for number, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
    assert min(differ) > one.index('  "run": {')


def test_the_same_bytes_in_another_process(book):
    text = results.as_text(result(book))
    (book.root / "one.json").write_text(text)
    code = "import sys; from pathlib import Path; from repro.book import results; r = results.read(Path(sys.argv[1])); "
    code += "sys.stdout.write(results.as_text(r))"
    run = subprocess.run(
        [sys.executable, "-c", code, str(book.root / "one.json")], capture_output=True, text=True, check=True
    )
    assert run.stdout == text


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_judging_again_gives_the_same_verdict(value):
    from repro.book.verdicts import Criterion, judge_tests, significant_digits

    criterion = Criterion("above", (0.0,), 2, corrected=False)
    values = [significant_digits(v) for v in (value, value / 3, value / 7)]
    stored = [significant_digits(v) for v in values]
    assert stored == values
    assert judge_tests({"x": (criterion, values)}) == judge_tests({"x": (criterion, stored)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "broken, not JSON"),
        ('{"schema": 1', "broken, not JSON"),
        ("[]", "a mapping is expected"),
        ('{"schema": 2}', "broken"),
        ("\udcff", "broken"),
    ],
)
def test_a_broken_file_gives_one_line(tmp_path, text, expected):
    path = tmp_path / "toy.quick.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput) as error:
        results.read(path)
    assert expected in str(error.value)
    assert "toy.quick.json" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"schema": 1', '"schema": 2', "schema is 2"),
        ('"verdict": "reproduced"', '"verdict": "proven"', "verdict is 'proven'; accepted: 'reproduced'"),
        ('"estimate": ', '"estimat": 1, "estimate": ', "unknown key 'estimat'"),
        ('"low": ', '"low": NaN, "x": ', "broken"),
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


def test_a_missing_file(tmp_path):
    with pytest.raises(BadInput, match=r"there is no result toy\.quick\.json"):
        results.read(tmp_path / "toy.quick.json")


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
    (change,) = results.compare(old, new)
    assert str(change) == (
        "T1: was reproduced, is now not reproduced (falls: was 0.121 [0.0958, 0.146] reproduced, "
        "is now 0.91 [0.885, 0.935] not reproduced)"
    )


def test_a_claim_that_vanishes_is_a_change_and_a_new_one_is_not(book):
    old = result(book)
    fewer = result(book, claims={key: one for key, one in old.claims.items() if key != "T1"})
    assert [str(change) for change in results.compare(old, fewer)] == [
        "T1: was reproduced, is no longer in the result"
    ]
    assert results.compare(fewer, old) == []


def test_results_of_different_profiles_are_not_compared(book):
    with pytest.raises(BadInput, match="cannot be compared"):
        results.compare(result(book), result(book, profile="paper"))


def test_disagreements_with_the_claims(book):
    chapter, good = claims.load(book.claims_file("toy")), result(book)
    assert results.disagreements(chapter, good) == []
    edited = good.claims["T1"].model_copy(update={"verdict": "not reproduced"})
    wrong = result(book, claims=good.claims | {"T1": edited, "T9": edited})
    told = results.disagreements(chapter, wrong)
    assert any(
        line.startswith("T1: stored as not reproduced, but its values say reproduced") for line in told
    )
    assert "T9: in the result, but not in the claims" in told
    less = result(book, claims={"T1": good.claims["T1"]})
    assert "T2: has no result yet" in results.disagreements(chapter, less)
