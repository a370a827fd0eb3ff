"""Generated pages: complete, escaped, byte-identical. How they look in a browser is the matter of test_rendered."""

import re

import ledger_book
import pytest
from ledger_book import result
from nbformat.v4 import new_code_cell, new_output

from repro.book import _pages, _ruler, answers, claims, results
from repro.book._notebooks import LEDGER
from repro.book.errors import BadInput


@pytest.fixture
def run(book):
    results.write(book.results_file("toy", "quick"), result(book))
    return book


def committed(book):
    return _pages.chapters(book, _pages.all_results(book))


def words(book):
    (chapter,) = committed(book)
    return {each.claim.id: (each.judged.word, each.profile) for each in chapter.shown}


def test_the_scoreboard_holds_every_claim_once(run):
    text = _pages.scoreboard(committed(run))
    lines = text[text.index('<ul class="scoreboard"') :]
    for claim, (word, _) in words(run).items():
        place = f"chapters/toy.html#claim-{claim.lower()}"
        assert lines.count(f'<li data-verdict="{word}"><a href="{place}"') == 1
        assert lines.count(place) == 2  # and to where the answer comes from
    for part in (
        '<a href="chapters/toy.html">toy</a>',
        "needs a GPU",
        "<strong>0.120 nats [0.111, 0.130]</strong> over 10 seeds; asked: below 0.5, margin 0.2: it is fixed",
        "98.3 (printed in the table)",
        r"\(a&lt;b\)",  # mathematics is left to MathJax
        "&lt;well&gt;",  # and no other text can break the page
        'id="scoreboard-filter" aria-label="Filter the claims" hidden',  # without scripts all is shown
        "<td>2 reproduced</td><td>1 not tested</td>",
    ):
        assert part in text
    assert text == _pages.scoreboard(committed(run))


def test_the_strongest_answer_is_shown_and_what_is_not_proved_only_where_there_is_no_other(run):
    yes = ("reproduced", "quick")
    assert words(run) == {"T1": yes, "T2": yes, "T3": ("not tested", "quick")}
    full = result(run, t1=[0.7 + 0.01 * k for k in range(10)], profile="full")
    seeds = {"parameters": {"seed": 10_000}}
    results.write(
        run.results_file("toy", "full"), full.model_copy(update={"provenance": full.provenance | seeds})
    )
    assert words(run)["T1"] == ("not reproduced", "full")
    results.write(run.results_file("toy", "full"), full)  # with the seeds of another profile
    assert words(run)["T1"] == ("reproduced", "quick")
    run.results_file("toy", "quick").unlink()
    assert words(run)["T1"] == ("exploratory", "full")


def test_the_first_screen_stands_after_the_title(run):
    (chapter,) = committed(run)
    notebook = _pages.with_first_screen(chapter, ledger_book.notebook(), "full")
    title, _, told = notebook["cells"][0]["source"].partition("\n\n")
    assert title == "# A toy chapter"
    for part in (
        "The paper says.</strong> The loss falls",
        "</span> T1</a>: The loss falls below",
        'The paper:</p> <div class="highlight"><pre>@misc{nobody2020, title = {A toy}, year = {2020}}</pre></div>',
        "<code>repro cite toy</code>",
        "3 of 3 answers from the profile <em>quick</em> (10 to 10 seeds, small scale). Claims: 2 reproduced.",
        'Without an answer: <a href="#claim-t3">T3</a>.',
        "repro check --history",
        "page’s own run, profile <em>full</em>",
        "T2 second: yes: gain: +1.4 points",
    ):
        assert part in told


def test_a_committed_answer_leads_to_its_values_its_code_and_its_commit(run):
    (chapter,) = committed(run)
    notebook = ledger_book.notebook()
    content = {"chapter": "toy", "profile": "quick", "seed": 500_000, "measurements": [], "not_tested": {}}
    notebook["cells"].append(new_code_cell("ledger", outputs=[new_output("display_data", {LEDGER: content})]))
    cells = _pages.with_first_screen(chapter, notebook, "quick")["cells"]
    code = next(i for i, cell in enumerate(cells) if "ledger.measure" in cell["source"])
    anchors = [f'<div id="measures-{claim}-1"></div>' for claim in ("t1", "t2", "t3")]
    assert [cell["source"] for cell in cells[code - 3 : code]] == anchors
    shown = cells[-1]["outputs"][0]["data"]["text/html"]
    row = shown[shown.index('id="claim-t1"') : shown.index('id="claim-t2"')]
    for part in (
        "not tested: this run measured nothing for it",  # the page's own run
        "Committed answer, profile quick: reproduced",
        "falls: yes, 0.120 nats [0.111, 0.130]",
        "10 values by seed",
        "0.123 0.1 0.105",
        '<a href="#measures-t1-1">this code</a>',
        "run 2026-11-21 with seeds from 500000 on",
        f'<a href="https://example.org/toy/blob/{"0123456789" * 4}/book/chapters/toy.ipynb">commit 0123456789</a>',
        '<a href="../results/toy.quick.json">',
    ):
        assert part.lower() in row.lower()


def test_the_landing_page_has_the_answers_in_their_places(run):
    text = _pages.landing("one <!-- answers: toy --> two <!-- ruler -->", committed(run))
    assert re.search(
        r"one <ul.*chapters/toy.html#claim-t1.*reproduced.*</ul>\n two <figure.*Controls.*</figure>", text
    )


@pytest.mark.parametrize(
    ("asked", "found", "places"),
    [
        ({"claim": "above 1", "margin": 1.0}, (2.0, 0.5, 9.0), [30, 100, 100, 60]),  # goes on: an arrow
        ({"claim": "below 1", "margin": 1.0}, (0.0, 0.0, 2.0), [20, 60, 60]),
        ({"claim": "between [1, 5]"}, (3.0, 2.0, 5.0), [50, 80, 40, 80, 60]),  # and its brackets
        ({"claim": "below 1", "statistic": "worst"}, (0.5, None, None), [50, 50, 50]),
    ],
)
def test_the_ruler_measures_in_margins(asked, found, places):
    about = {"name": "a", "metric": "m", "unit": "none", "scale": "small", "why": "so", "seeds": 3}
    judged = answers.JudgedTest(
        **dict(zip(("estimate", "low", "high"), found, strict=True)), words="", scale="small"
    )
    drawn = _ruler._drawn(claims.DecidingTest(**about, **asked), judged, "yes")
    found = [*drawn["line"], *(at for at, _ in drawn["marks"])]
    assert [float(_ruler._percent(at).rstrip("%")) for at in found] == places


def test_a_chapter_that_never_ran_is_there_too(book):
    assert _pages.scoreboard(committed(book)).count("<p>Not run yet.</p>") == 3
    assert "not run yet" in _pages.status(book, {})
    assert "| not run yet | 2 not tested | 1 not tested | – |" in _pages.readme_table(book)


def test_status(run):
    held = result(run)
    dirty = held.model_copy(update={"provenance": held.provenance | {"dirty": True}})
    text = _pages.status(run, {("toy", "quick"): held, ("toy", "full"): dirty})
    for part in (
        "61 of 120",
        "432 of 500",
        f'commit/{"0123456789" * 4}"><code>0123456789</code></a> with local changes',
        "2026-11-21",
        "2 reproduced, 1 not tested",
        "1 not tested, 2 exploratory",
        "Linux, x86_64, 2 cores, A | B",
        '<th scope="row">torch</th> <td>2.13.0</td>',
    ):
        assert part in text


README = "# Toy\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nEnd.\n"


def test_readme(run):
    path = run.root / "README.md"
    path.write_text(README)
    _pages.write_readme(run)
    text = path.read_text()
    paper = "[arXiv:2001.00001](https://arxiv.org/abs/2001.00001)"
    row = f"| [toy](book/chapters/toy.ipynb) | {paper} | quick | 2 reproduced | 1 not tested |"
    assert f"{row} `repro run toy --profile quick` |" in text
    assert text.startswith("# Toy\n\n<!-- results:begin -->\n\n|")
    assert text.endswith("|\n\n<!-- results:end -->\n\nEnd.\n")
    _pages.write_readme(run)
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["<!-- results:end --><!-- results:begin -->", None])
def test_a_readme_without_its_markers_stays_as_it_is(run, text):
    path = run.root / "README.md"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=r"README\.md"):
        _pages.write_readme(run)
    assert text is None or path.read_text() == text


def test_the_command_says_where_a_run_differs_from_its_profile(book):
    held = result(book, provenance={"parameters": {"profile": "quick", "n": 7, "seed": 500_000}}, run={})
    results.write(book.results_file("toy", "quick"), held)
    assert "| `repro run toy --profile quick -p n=7` |" in _pages.readme_table(book)
