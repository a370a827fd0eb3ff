"""The ledger: values are taken or refused, and the build judges what the page shows; data sets are quoted."""

from types import SimpleNamespace

import pytest
from ledger_book import GAINS, T1

from repro.book import _notebooks
from repro.book.errors import BadInput
from repro.book.ledger import Ledger, answers, data_sets


@pytest.fixture
def ledger(book):
    return Ledger("toy", "quick", 500_000, book)


def measured(ledger):
    ledger.measure("T1", test="falls", values=T1)
    ledger.measure("T2", test="first", values=GAINS)
    ledger.measure("T2", test="second", values=[-gain for gain in GAINS])
    return ledger


def judged(ledger):
    return answers(ledger.claims, ledger.content())


def test_answers_of_a_run(ledger):
    found = judged(measured(ledger))
    words = {claim: one.word for claim, one in found.items()}
    assert words == {"T1": "reproduced", "T2": "partly", "T3": "not tested"}
    assert found["T2"].deciding["large"].words == "needs a GPU"
    assert found["T3"].sentence == "Not tested: this run measured nothing for it."


def test_one_number_no_number_and_truth_values(ledger):
    ledger.measure("T1", test="falls", values=[])
    ledger.measure("T2", test="first", values=0.3)
    ledger.measure("T3", test="share", values=[False] * 30)
    found = judged(ledger)
    assert found["T1"].word == "not tested"  # no seed qualified
    assert found["T2"].deciding["first"].values == (0.3,)
    assert found["T3"].word == "passed"


@pytest.mark.parametrize(
    ("claim", "test", "values"),
    [
        ("T9", "falls", [1.0]),
        ("T1", "fals", [1.0]),
        ("T1", "falls", [1.0, float("nan")]),
        ("T1", "falls", [[1.0, 2.0]]),
        ("T1", "falls", ["a"]),
        ("T3", "share", [0.5]),
        ("T2", "first", [1.0]),
    ],
)
def test_a_bad_measurement_is_refused_and_leaves_the_ledger_as_it_was(ledger, claim, test, values):
    ledger.measure("T2", test="first", values=[2.0])
    before = ledger.content()
    with pytest.raises(BadInput):
        ledger.measure(claim, test=test, values=values)
    assert ledger.content() == before


def test_a_claim_is_measured_or_declared_not_tested(ledger):
    ledger.measure("T1", test="falls", values=[1.0])
    ledger.not_tested("T3", "no time")
    assert judged(ledger)["T3"].sentence == "Not tested: no time."
    with pytest.raises(BadInput, match="declared not tested"):
        ledger.not_tested("T1", "no time")
    with pytest.raises(BadInput, match="declared not tested: no time"):
        ledger.measure("T3", test="share", values=[1])
    with pytest.raises(BadInput, match="needs a reason"):
        ledger.not_tested("T2", " ")


MEASURED = {"claim": "T1", "test": "falls", "values": [1]}


@pytest.mark.parametrize("wrong", [{"measurements": [MEASURED, MEASURED]}, {"not_tested": {"T9": "x"}}])
def test_the_judge_trusts_no_notebook(ledger, wrong):
    with pytest.raises(BadInput):
        answers(ledger.claims, ledger.content() | wrong)


def test_the_table(ledger):
    html = measured(ledger)._repr_mimebundle_()["text/html"]
    assert html.count('<th scope="col">') == html.count('<th scope="row">') == 3
    parts = ('id="claim-t1"', r"\(10^{-6}\)", r"\(a&lt;b\)", "&lt;well&gt;", "98.3 (printed in the table)")
    assert [part for part in parts if part not in html] == []
    assert "claims: 1 reproduced, 1 partly; controls: 1 not tested" in html


TOY = SimpleNamespace(name="toy<1>", source="made here", licence="CC0", checksum="ab" * 32)


def test_the_page_shows_source_licence_and_checksum_and_the_runner_reads_the_checksum_back(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    data_sets(TOY)
    (bundle,) = shown
    for text in ("toy&lt;1&gt;", "made here", "CC0", "<code>abababababab</code>"):
        assert text in bundle["text/html"]
    notebook = {"cells": [{"cell_type": "code", "outputs": [{"data": bundle}]}]}
    assert _notebooks.data_shown(notebook) == {"toy<1>": "ab" * 32}
