"""Claims files and the ledger: one clear line for what is wrong, verdicts for what is right."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ledger_book import CLAIMS, make

from repro.book import claims
from repro.book.errors import BadInput
from repro.book.layout import Book

RUN = {"T1": {"falls": [0.1, 0.11, 0.12]}, "T2": {"first": [1.0, 1.1, 1.2], "second": [-1.0, 1.0, 0.5]}}


@pytest.fixture
def book(tmp_path):
    return make(tmp_path)


@pytest.fixture
def ledger(book):
    return claims.Ledger("toy", "quick", book)


def measured(ledger):
    for claim, tests in RUN.items():
        for test, values in tests.items():
            ledger.measure(claim, test=test, values=values)
    return ledger


def test_the_books_own_files_of_claims_are_sound():
    book = Book(Path(__file__).parents[2])
    for chapter in book.chapters():
        assert claims.load(book.claims_file(chapter)).chapter == chapter


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("direction: below", "direction: under", "claims.T1.tests.falls.direction: found 'under'"),
        ("threshold: 0.5,", "threshold: 5e-1,", "in YAML 1.0e-6, not 1e-6"),
        ("threshold: 0.5,", "treshold: 0.5,", "unknown key; did you mean 'threshold'?"),
        ("threshold: 0.5,", "threshold: 0.1234567,", "at most six significant digits"),
        ("min_seeds: 3}", "min_seeds: 3, interval: bootstrap-median}", "no 95 % interval below 6 seeds"),
        ("[0.0, 0.4]", "[0.4, 0.0]", "accepted for between: [low, high] with low < high"),
        ("id: T2", "id: T1", "claim id 'T1' stands twice"),
        ("  quick: {n: 2}", "  quick: {}", "profile quick has no value for n"),
        ("        otherwise: needs a GPU\n", "", "profiles is ['paper'] without otherwise"),
        ("chapter: toy", "chapter: toi", "accepted: the file's name, 'toy'"),
        ("seconds: 120", "<<: 120", "not readable YAML"),
        ("where: table 1", "where: table 1\n    where: table 2", "the key 'where' stands twice"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, old, new, expected):
    assert old in CLAIMS
    path = tmp_path / "toy.yml"
    path.write_text(CLAIMS.replace(old, new, 1))
    with pytest.raises(BadInput) as error:
        claims.load(path)
    assert expected in str(error.value)
    assert str(error.value).startswith("toy.yml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, "", "- 1", "\x00", "a: !!bool x", "a: " + "[" * 3000])
def test_a_file_that_is_no_mapping(tmp_path, content):
    path = tmp_path / "toy.yml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=r"toy\.yml"):
        claims.load(path)


# the ledger


def test_verdicts_of_a_run(ledger):
    judged = measured(ledger).judged()
    found = {claim: one.verdict for claim, one in judged.items()}
    assert found == {"T1": "reproduced", "T2": "partly", "T3": "not tested"}
    assert judged["T2"].tests["large"].reason == "needs a GPU"
    assert judged["T3"].reason == "this run measured nothing for it"
    assert list(ledger.summary().values()) == [1, 1, 0, 0, 1]
    assert judged["T1"].tests["falls"].estimate == pytest.approx(0.11)


def test_each_profile_judges_its_own_tests_and_smoke_none(book):
    ledger = claims.Ledger("toy", "paper", book)
    ledger.measure("T2", test="large", values=[1.0, 1.1, 1.2])
    assert ledger.judged()["T2"].tests["large"].verdict == "reproduced"
    ledger = measured(claims.Ledger("toy", "smoke", book))
    assert ledger.summary()["not tested"] == 3
    assert ledger.judged()["T1"].tests["falls"].values == (0.1, 0.11, 0.12)


def test_values_of_any_kind_give_the_same_verdict(book):
    found = set()
    for values in ([1, 2, 3], (1.0, 2.0, 3.0), np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0])):
        ledger = claims.Ledger("toy", "quick", book)
        ledger.measure("T1", test="falls", values=values)
        found.add(ledger.judged()["T1"].tests["falls"])
    assert len(found) == 1


def test_one_number_no_number_and_truth_values(ledger):
    ledger.measure("T1", test="falls", values=[])
    ledger.measure("T2", test="first", values=0.3)
    ledger.measure("T3", test="share", values=[False] * 30)
    assert ledger.judged()["T1"].reason == "0 of the 3 seeds that it needs"  # no seed qualified
    assert ledger.judged()["T2"].tests["first"].values == (0.3,)
    assert ledger.judged()["T3"].verdict == "undecided"  # nothing in 30: the interval touches zero


@pytest.mark.parametrize(
    ("claim", "test", "values"),
    [
        ("T9", "falls", [1.0]),
        ("T1", "falls", [1.0, float("nan")]),
        ("T1", "falls", [[1.0, 2.0]]),
        ("T1", "falls", ["a"]),
        ("T3", "share", [0.5]),
        ("T2", "first", [1.0]),
    ],
)
def test_a_bad_measurement_is_refused_and_leaves_the_ledger_as_it_was(ledger, claim, test, values):
    ledger.measure("T2", test="first", values=[2.0])
    before = ledger.judged()
    with pytest.raises(BadInput):
        ledger.measure(claim, test=test, values=values)
    assert ledger.judged() == before


def test_a_claim_is_measured_or_declared_not_tested(ledger):
    ledger.measure("T1", test="falls", values=[1.0])
    ledger.not_tested("T3", "no time")
    assert ledger.judged()["T3"].reason == "no time"
    with pytest.raises(BadInput, match="declared not tested"):
        ledger.not_tested("T1", "no time")
    with pytest.raises(BadInput, match="declared not tested: no time"):
        ledger.measure("T3", test="share", values=[1])
    with pytest.raises(BadInput, match="needs a reason"):
        ledger.not_tested("T2", " ")


def test_the_build_judges_what_the_page_shows(ledger):
    shown = json.loads(json.dumps(measured(ledger)._repr_mimebundle_()[claims.LEDGER]))
    assert set(shown) == {"chapter", "profile", "measurements", "not_tested"}
    again = claims.judge(ledger.claims, shown["measurements"], shown["not_tested"], shown["profile"])
    assert again == ledger.judged()


@pytest.mark.parametrize(
    ("measurements", "not_tested"), [([{"claim": "T1", "values": [1]}], {}), ([], {"T9": "no time"})]
)
def test_the_judge_trusts_no_notebook(book, measurements, not_tested):
    with pytest.raises(BadInput):
        claims.judge(claims.load(book.claims_file("toy")), measurements, not_tested, "quick")


def test_the_table(ledger):
    html = measured(ledger)._repr_mimebundle_()["text/html"]
    assert html.count('<th scope="col">') == html.count('<th scope="row">') == 3
    for part in (
        'id="claim-t1"',
        r"\(10^{-6}\)",
        r"\(a&lt;b\)",
        "&lt;well&gt;",
        "98.3 (printed in the table)",
    ):
        assert part in html
    assert "mean 0.11 [0.0852, 0.135] over 3 seeds" in html
    assert re.search(r'<span class="verdict verdict-partly">.*?partly</span>', html)
