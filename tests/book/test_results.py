"""Results on disk: canonical, whole or absent, and comparable."""

import json

import pytest
from ledger_book import result

from repro.book import claims, results
from repro.book.errors import BadInput


def test_the_file_is_canonical(book):
    path = book.results_file("toy", "quick")
    results.write(path, result(book))
    text = path.read_text()
    assert results._as_text(results.read(path)) == text
    content = json.loads(text)
    assert list(content) == ["chapter", "claims", "not_tested", "profile", "provenance", "schema", "run"]
    assert content["claims"]["T1"]["deciding"]["falls"]["values"][0] == 0.123457
    assert content["provenance"]["parameters"]["rate"] == 0.123456789  # what was asked for stays exact
    backwards = result(book, claims=dict(reversed(result(book).claims.items())))
    assert results._as_text(backwards) == text
    with pytest.raises(BadInput, match="cannot be written"):
        results.write(path, result(book, run={"seconds": float("nan")}))
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", '{"schema": 2', "[]", '{"schema": 1}', "\udcff"])
def test_a_broken_file_gives_one_line(tmp_path, text):
    path = tmp_path / "toy.quick.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match=r"^toy\.quick\.json cannot be read: .*; a result, which a run"):
        results.read(path)


def test_an_answer_that_turns_is_told_and_one_that_is_open_contradicts_nothing(book):
    old, few = result(book), result(book, t1=[0.1, 0.9])
    new = result(book, t1=[0.9 + 0.01 * k for k in range(10)])
    (line,) = old.contradictions(new)
    assert line.startswith("T1: falls: was yes, 0.12")
    assert few.claims["T1"].word == "undecided"
    assert old.contradictions(old) == old.contradictions(few) == few.contradictions(new) == []


def test_an_effect_that_is_there_and_does_not_matter_may_be_told_either_way(book):
    """More than none with many seeds, less than the margin with few; only intervals apart contradict each other."""
    old = result(book)
    judged = old.claims["T1"].deciding["falls"]

    def told(**answer):
        claim = old.claims["T1"].model_copy(update={"deciding": {"falls": judged.model_copy(update=answer)}})
        return old.model_copy(update={"claims": {"T1": claim}})

    yes = told(answer="yes", low=0.1, high=0.3)
    assert yes.contradictions(told(answer="no", low=-0.1, high=0.2)) == []
    assert len(yes.contradictions(told(answer="no", low=0.4, high=0.5))) == 1
    assert len(yes.contradictions(told(answer="no", low=None, high=None))) == 1


def test_disagreements_with_the_claims(book):
    chapter, good = claims.load(book.claims_file("toy")), result(book)
    assert good.disagreements(chapter) == []
    edited = good.claims["T1"].model_copy(update={"verdict": "not reproduced"})
    renamed = good.claims["T2"].model_copy(update={"supporting": good.claims["T1"].deciding})
    wrong = result(book, claims={"T1": edited, "T2": renamed, "T9": edited})
    assert sorted(wrong.disagreements(chapter)) == [
        "T1: stored as not reproduced, but its values say reproduced",
        "T2: test falls is in the result, but not in the claims",
        "T3: has no result yet",
        "T9: in the result, but not in the claims",
    ]
