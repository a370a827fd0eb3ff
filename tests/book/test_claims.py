"""Claims files and the ledger: one clear line for what is wrong, verdicts for what is right."""

import json
import re

import numpy as np
import pytest
import torch
from ledger_book import CLAIMS, make

from repro.book import claims
from repro.book.errors import BadInput

RUN = {"T1": {"falls": [0.1, 0.11, 0.12]}, "T2": {"first": [1.0, 1.1, 1.2], "second": [-1.0, 1.0, 0.5]}}


@pytest.fixture
def book(tmp_path):
    return make(tmp_path)


@pytest.fixture
def ledger(book):
    return claims.Ledger("toy", "quick", book)


def measured(ledger, run=RUN):
    for claim, tests in run.items():
        for test, values in tests.items():
            ledger.measure(claim, test=test, values=values)
    return ledger


def test_the_file_is_read(book):
    chapter = claims.load(book.claims_file("toy"))
    assert [claim.id for claim in chapter.claims] == ["T1", "T2", "T3"]
    assert chapter.profiles["paper"] == {"n": 3}
    assert chapter.claim("T3").test("share").thresholds == (0.0, 0.4)
    assert chapter.quoted == [98.34]


def test_the_books_own_files_of_claims_are_sound():
    from repro.book.layout import Book

    book = Book.find(__file__)
    for chapter in book.chapters():
        assert claims.load(book.claims_file(chapter)).chapter == chapter


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "direction: below",
            "direction: under",
            "claim T1: test falls: direction is 'under'; accepted: 'below', ",
        ),
        (
            "threshold: 0.5,",
            "threshold: 5e-1,",
            "threshold is '5e-1'; accepted: a number (in YAML write 1.0e-6",
        ),
        ("threshold: 0.5,", "treshold: 0.5,", "unknown key 'treshold'; did you mean 'threshold'?"),
        ("threshold: 0.5,", "", "claim T1: test falls: threshold is missing"),
        ("threshold: 0.5,", "threshold: .nan,", "threshold is nan; accepted: a finite number"),
        (
            "threshold: 0.5,",
            "threshold: 0.1234567,",
            "threshold is 0.1234567; accepted: at most six significant",
        ),
        (
            "threshold: 0.5,",
            "threshold: [0.1, 0.5],",
            "threshold is [0.1, 0.5]; accepted for below: one number",
        ),
        ("[0.0, 0.4]", "[0.4, 0.0]", "claim T3: test share: threshold is [0.4, 0.0]; accepted for between"),
        ("[0.0, 0.4]", "[0.0, 40.0]", "threshold is 40.0; accepted for the proportions of wilson: 0 to 1"),
        ("id: T2", "id: T1", "claim id 'T1' stands twice"),
        ("name: second", "name: first", "claim T2: test name 'first' stands twice"),
        (
            "kind: theory",
            "kind: theroy",
            "claim T1: kind is 'theroy'; accepted: 'theory', 'empirical' or 'control'",
        ),
        ("where: section 2", "were: section 2", "claim T1: unknown key 'were'; did you mean 'where'?"),
        (
            "  quick: {n: 2}",
            "  quick: {}",
            "profile quick has no value for n; accepted: every name in all of",
        ),
        ("  quick: {n: 2}\n", "", "profiles lacks quick; accepted: all of smoke, quick, paper"),
        (
            "  quick: {seconds",
            "  quik: {seconds",
            "budget.quik is 'quik'; accepted: 'smoke', 'quick' or 'paper'",
        ),
        ("seconds: 60", "seconds: -60", "budget.smoke.seconds is -60; accepted: a number above 0"),
        (
            "    paper_value_is: printed in the table\n",
            "",
            "claim T2: paper_value is 98.34 without paper_value_is",
        ),
        (
            "        otherwise: needs a GPU\n",
            "",
            "claim T2: test large: profiles is ['paper'] without otherwise",
        ),
        (
            "profiles: [paper]",
            "profiles: [papr]",
            "claim T2: test large: profiles[0] is 'papr'; accepted: 'quick'",
        ),
        ("min_seeds: 3}", "min_seeds: 2.5}", "min_seeds is 2.5; accepted: a whole number"),
        ("chapter: toy", "chapter: toi", "chapter is 'toi'; accepted: the file's name, 'toy'"),
        ("quoted: [98.34]", "quoted: [many]", "quoted[0] is 'many'; accepted: a number"),
        ("kind: theory", "kind: [", "toy.yml is not readable YAML"),
        (
            "kind: theory",
            "kind: !mine theory",
            "line 17: could not determine a constructor for the tag '!mine'",
        ),
        ("seconds: 120", "<<: 120", "line 6: expected a mapping or list of mappings for merging"),
        ("where: table 1", "where: table 1\n    where: table 2", "the key 'where' stands twice"),
        ('arxiv: "2001.00001"', "arxiv: 2001.00001", "paper.arxiv is 2001.00001; accepted: text"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, old, new, expected):
    assert old in CLAIMS
    path = tmp_path / "toy.yml"
    path.write_text(CLAIMS.replace(old, new, 1))
    with pytest.raises(BadInput) as error:
        claims.load(path)
    assert expected in str(error.value)
    assert "toy.yml" in str(error.value)
    assert "\n" not in str(error.value)


def test_mappings_may_be_merged(tmp_path):
    text = CLAIMS.replace("smoke: {seconds", "smoke: &a {seconds").replace(
        "quick: {seconds: 120, memory_mb: 500}", "quick: {<<: *a, seconds: 7}"
    )
    (tmp_path / "toy.yml").write_text(text)
    budget = claims.load(tmp_path / "toy.yml").budget["quick"]
    assert (budget.seconds, budget.memory_mb) == (7, 500)


@pytest.mark.parametrize("content", ["", "- 1", "text", "\x00", "a: !!bool x", "a: " + "[" * 3000])
def test_a_file_that_is_no_mapping(tmp_path, content):
    path = tmp_path / "toy.yml"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"toy\.yml"):
        claims.load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(BadInput, match=r"book/claims/toy\.yml is missing"):
        claims.load(tmp_path / "toy.yml")


# the ledger


def test_verdicts_of_a_run(ledger):
    judged = measured(ledger).judged()
    assert {claim: one.verdict for claim, one in judged.items()} == {
        "T1": "reproduced",
        "T2": "partly",
        "T3": "not tested",
    }
    assert judged["T2"].tests["large"].reason == "needs a GPU"
    assert judged["T3"].reason == "this run measured nothing for it"
    assert ledger.summary() == {
        "reproduced": 1,
        "partly": 1,
        "undecided": 0,
        "not reproduced": 0,
        "not tested": 1,
    }
    assert ledger["T1"].tests["falls"].estimate == pytest.approx(0.11)


def test_a_paper_run_judges_what_a_quick_run_leaves_out(book):
    ledger = claims.Ledger("toy", "paper", book)
    ledger.measure("T2", test="large", values=[1.0, 1.1, 1.2])
    assert ledger["T2"].tests["large"].verdict == "reproduced"


def test_smoke_is_never_judged(book):
    ledger = measured(claims.Ledger("toy", "smoke", book))
    assert set(ledger.summary().values()) == {0, 3}
    assert ledger.summary()["not tested"] == 3
    assert ledger["T1"].tests["falls"].values == (0.1, 0.11, 0.12)
    assert ledger["T1"].tests["falls"].low is None


def test_values_of_any_kind_give_the_same_verdict(book):
    found = set()
    for values in ([1, 2, 3], (1.0, 2.0, 3.0), np.array([1, 2, 3]), torch.tensor([1.0, 2.0, 3.0])):
        ledger = claims.Ledger("toy", "quick", book)
        ledger.measure("T1", test="falls", values=values)
        found.add(ledger["T1"].tests["falls"])
    assert len(found) == 1


def test_one_number_and_truth_values(ledger):
    ledger.measure("T1", test="falls", values=0.3)
    ledger.measure("T3", test="share", values=[False] * 30)
    assert ledger["T1"].tests["falls"].values == (0.3,)
    assert ledger["T3"].verdict == "undecided"  # nothing in 30: the interval touches zero


@pytest.mark.parametrize(
    ("claim", "test", "values", "expected"),
    [
        ("T9", "falls", [1.0], "toy has no claim 'T9'; did you mean"),
        ("T1", "fall", [1.0], "claim T1 has no test 'fall'; did you mean 'falls'?"),
        ("T1", "falls", [1.0, float("nan")], "T1, test falls: value 2 of 2 is nan"),
        ("T1", "falls", [float("inf")], "value 1 of 1 is inf"),
        ("T1", "falls", [[1.0, 2.0]], "one number a seed, got shape"),
        ("T1", "falls", ["a"], "values must be numbers"),
        ("T3", "share", [0.5], "a proportion takes zeros and ones, one a seed, got 0.5"),
    ],
)
def test_bad_measurements(ledger, claim, test, values, expected):
    with pytest.raises(BadInput) as error:
        ledger.measure(claim, test=test, values=values)
    assert expected in str(error.value)
    assert ledger.summary()["not tested"] == 3  # nothing was recorded


def test_no_seed_qualified_is_a_result(ledger):
    ledger.measure("T1", test="falls", values=[])
    assert ledger["T1"].verdict == "not tested"
    assert ledger["T1"].reason == "0 of the 3 seeds that it needs"


def test_contradictions(ledger):
    ledger.measure("T1", test="falls", values=[1.0])
    with pytest.raises(BadInput, match="measured before"):
        ledger.measure("T1", test="falls", values=[1.0])
    with pytest.raises(BadInput, match="but test falls was measured"):
        ledger.not_tested("T1", "no time")
    ledger.not_tested("T3", "no time")
    with pytest.raises(BadInput, match="declared not tested: no time"):
        ledger.measure("T3", test="share", values=[1])
    with pytest.raises(BadInput, match="needs a reason"):
        ledger.not_tested("T2", " ")
    assert ledger["T3"].reason == "no time"


@pytest.mark.parametrize(("chapter", "profile"), [("toi", "quick"), ("toy", "quik")])
def test_unknown_chapter_or_profile(book, chapter, profile):
    with pytest.raises(BadInput, match="did you mean"):
        claims.Ledger(chapter, profile, book)


def test_the_build_judges_what_the_page_shows(ledger):
    shown = measured(ledger)._repr_mimebundle_()[claims.LEDGER]
    shown = json.loads(json.dumps(shown))
    assert set(shown) == {"chapter", "profile", "measurements", "not_tested"}
    again = claims.judge(ledger.claims, shown["measurements"], shown["not_tested"], shown["profile"])
    assert again == ledger.judged()


@pytest.mark.parametrize(
    ("measurements", "not_tested"),
    [
        ([{"claim": "T9", "test": "falls", "values": [1]}], {}),
        ([{"claim": "T1", "values": [1]}], {}),
        ([{"claim": "T1", "test": "falls", "values": [None]}], {}),
        ([{"claim": "T1", "test": "falls", "values": [1]}] * 2, {}),
        ([{"claim": "T1", "test": "falls", "values": [1]}], {"T1": "no time"}),
        ([], {"T9": "no time"}),
    ],
)
def test_the_judge_trusts_no_notebook(book, measurements, not_tested):
    with pytest.raises(BadInput):
        claims.judge(claims.load(book.claims_file("toy")), measurements, not_tested, "quick")


def test_the_table(ledger):
    html = measured(ledger)._repr_mimebundle_()["text/html"]
    assert html.count('<th scope="col">') == 3
    assert html.count('<th scope="row">') == 3
    assert 'id="claim-t1"' in html
    assert r"\(10^{-6}\)" in html
    assert "&lt;well&gt;" in html
    assert "<well>" not in html
    assert r"\(a&lt;b\)" in html
    assert "mean 0.11 [0.0852, 0.135] over 3 seeds" in html
    assert "98.3" in html
    assert "printed in the table" in html
    assert re.search(r'<span class="verdict verdict-partly">.*?partly</span>', html)


def test_a_few_rows_have_no_ids(ledger, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    measured(ledger).show("T2")
    assert shown[0]["text/html"].count('scope="row"') == 1
    assert "id=" not in shown[0]["text/html"]
    assert shown[0] == claims.shown(ledger.claims, shown[0][claims.LEDGER])  # as it is shown again later
    with pytest.raises(BadInput, match="did you mean"):
        ledger.show("T22")
