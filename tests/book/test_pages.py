"""Generated pages: complete, escaped, byte-identical. How they look in a browser is the matter of test_rendered."""

import re

import pytest
from ledger_book import make, result

from repro.book import pages, results
from repro.book.errors import BadInput
from repro.book.markup import document, inline_html, inline_myst, number


@pytest.fixture
def book(tmp_path):
    return make(tmp_path)


@pytest.fixture
def run(book):
    results.write(book.results_file("toy", "quick"), result(book))
    return book


def test_the_scoreboard_holds_every_claim_once(run):
    text = pages.scoreboard(run, pages.all_results(run))
    for claim in ("t1", "t2", "t3"):
        assert text.count(f"chapters/toy.html#claim-{claim}") == 1
    for part in (
        "[toy](chapters/toy.ipynb)",
        "needs a GPU",
        "mean 0.121 [0.0958, 0.146] over 3 seeds; claim: below 0.5",
        "98.3 (printed in the table)",
        "$a<b$",  # mathematics is left to MathJax
        "&lt;well>",  # and no other text can break the page
        'id="scoreboard-filter" aria-label="Filter the claims" hidden',  # without scripts all is shown
    ):
        assert part in text
    top = text[: text.index("scoreboard-filter")]
    assert re.findall(r"^  - (\d+)$", top, re.MULTILINE) == ["1", "1", "0", "0", "1", "3"]
    assert text == pages.scoreboard(run, pages.all_results(run))


def test_a_chapter_that_never_ran_is_there_too(book):
    assert pages.scoreboard(book, {}).count("not run yet") == 3
    assert "not run yet" in pages.status(book, {})


def test_status(run):
    text = pages.status(run, pages.all_results(run))
    for part in (
        "61 of 120",
        "432 of 500",
        "[`0123456789`](https://example.org/toy/commit/0123456789abcdef) with local changes",
        "2026-11-21",
        "1 reproduced, 1 partly, 1 not tested",
        "Linux, x86_64, 2 cores, A &#124; B",
        "`torch`\n  - 2.13.0",
    ):
        assert part in text


@pytest.mark.parametrize(
    "text",
    [
        *("# title", "- item", "1. item", "::: note", "a\n\nb"),
        *("{math}`x`", "% comment", "(target)=", "> q", "| a |"),
    ],
)
def test_a_cell_of_a_table_is_one_paragraph_whatever_it_says(text):
    cell = inline_myst(text)
    assert "\n" not in cell
    page = document(cell)
    assert [each.name for each in page.find_all(recursive=False)] == ["p"]
    assert page.select(".role") == []


def test_inline_html_keeps_mathematics_and_escapes_the_rest():
    assert inline_html("a $x<y$ <b> *c* `d<e`") == (
        r'a <span class="math inline">\(x&lt;y\)</span> &lt;b&gt; <em>c</em> <code>d&lt;e</code>'
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "0"), (-1.5, "−1.5"), (1.23456e-9, "1.23e−9"), (12345.0, "1.23e4")],
)
def test_numbers(value, shown):
    assert number(value) == shown


README = "# Toy\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nEnd.\n"


def test_readme(run):
    path = run.root / "README.md"
    path.write_text(README)
    pages.write_readme(run)
    text = path.read_text()
    paper = "[arXiv:2001.00001](https://arxiv.org/abs/2001.00001)"
    row = f"| [toy](book/chapters/toy.ipynb) | {paper} | quick | 1 | 1 | 0 | 0 | 1 |"
    assert f"{row} `repro run toy --profile quick` |" in text
    assert text.startswith("# Toy\n\n<!-- results:begin -->\n\n|")
    assert text.endswith("|\n\n<!-- results:end -->\n\nEnd.\n")
    pages.write_readme(run)
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["no markers", "<!-- results:end --><!-- results:begin -->", None])
def test_a_readme_without_its_markers_stays_as_it_is(run, text):
    path = run.root / "README.md"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=r"README\.md"):
        pages.write_readme(run)
    assert text is None or path.read_text() == text


def test_the_command_says_where_a_run_differs_from_its_profile(book):
    held = result(book, provenance={"parameters": {"profile": "quick", "n": 7, "seed": 0}}, run={})
    results.write(book.results_file("toy", "quick"), held)
    assert "| `repro run toy --profile quick -p n=7` |" in pages.readme_table(book)
