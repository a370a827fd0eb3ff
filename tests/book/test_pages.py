"""Generated pages: complete, escaped, byte-identical; and the filter's script, run where a browser is found."""

import re
import shutil

import pytest
from ledger_book import CLAIMS, make
from test_results import result

from repro.book import pages, results
from repro.book.errors import BadInput
from repro.book.markup import inline_html, inline_myst, number, plain


@pytest.fixture
def book(tmp_path):
    return make(tmp_path)


@pytest.fixture
def run(book):
    results.write(
        book.results_file("toy", "quick"),
        result(
            book,
            provenance={
                "commit": {"commit": "0123456789abcdef", "dirty": True},
                "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
            },
            run={
                "seconds": 61.3,
                "peak_memory_mb": 432.1,
                "finished": "2026-11-21T04:05:06",
                "machine": {
                    "system": "Linux",
                    "architecture": "x86_64",
                    "cores": 2,
                    "accelerators": ["A | B"],
                },
            },
        ),
    )
    return book


def test_the_scoreboard_holds_every_claim_once(run):
    text = pages.scoreboard(run)
    for claim in ("t1", "t2", "t3"):
        assert text.count(f"chapters/toy.html#claim-{claim}") == 1
    assert "[toy](chapters/toy.ipynb)" in text
    assert "needs a GPU" in text
    assert "mean 0.121 [0.0958, 0.146] over 3 seeds; claim: below 0.5" in text
    assert "98.3 (printed in the table)" in text


def test_the_counts_are_on_top(run):
    text = pages.scoreboard(run)
    top = text[: text.index("scoreboard-filter")]
    assert re.findall(r"^  - (\d+)$", top, re.MULTILINE) == ["1", "1", "0", "0", "1", "3"]


def test_a_chapter_that_never_ran_is_there_too(book):
    text = pages.scoreboard(book)
    assert text.count("not run yet") == 3
    assert "not run yet" in pages.status(book, {})


def test_text_of_the_claims_cannot_break_the_page(run):
    text = pages.scoreboard(run)
    assert "&lt;well>" in text
    assert "<well>" not in text
    assert "$a<b$" in text  # mathematics is left to MathJax


@pytest.mark.parametrize(
    "text",
    [
        "# title",
        "- item",
        "1. item",
        "::: note",
        "a\n\nb",
        "{math}`x`",
        "% comment",
        "(target)=",
        "> q",
        "| a |",
    ],
)
def test_a_cell_of_a_table_is_one_paragraph_whatever_it_says(text):
    from repro.book.markup import parse

    cell = inline_myst(text)
    assert "\n" not in cell
    assert [token.type for token in parse(cell)] == ["paragraph_open", "inline", "paragraph_close"]
    assert "{math}" not in cell


def test_inline_html_keeps_mathematics_and_escapes_the_rest():
    assert inline_html("a $x<y$ <b> *c* `d<e`") == (
        r'a <span class="math inline">\(x&lt;y\)</span> &lt;b&gt; <em>c</em> <code>d&lt;e</code>'
    )
    assert plain("a $x$ *b*") == "a x b"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.0, "0"), (-1.5, "−1.5"), (1.23456e-9, "1.23e−9"), (12345.0, "1.23e4")],
)
def test_numbers(value, shown):
    assert number(value) == shown


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


def test_pages_are_byte_identical(run, tmp_path):
    first = [pages.write_scoreboard(run).read_bytes(), pages.write_status(run).read_bytes()]
    second = [pages.write_scoreboard(run, tmp_path / "s.md"), pages.write_status(run, tmp_path / "t.md")]
    assert first == [path.read_bytes() for path in second]


def test_the_page_needs_no_network_and_no_script_to_be_read(run):
    text = pages.scoreboard(run)
    assert "src=" not in text
    assert 'id="scoreboard-filter" aria-label="Filter the claims" hidden' in text
    assert text.count("<select") == text.count("<label>") == 3


# README


README = "# Toy\n\n<!-- results:begin -->\nold\n<!-- results:end -->\n\nEnd.\n"


def test_readme(run):
    path = run.root / "README.md"
    path.write_text(README)
    pages.write_readme(run)
    text = path.read_text()
    paper = "[arXiv:2001.00001](https://arxiv.org/abs/2001.00001)"
    row = f"| [toy](book/chapters/toy.ipynb) | {paper} | quick | 1 | 1 | 0 | 0 | 1 |"
    assert f"{row} `repro run toy --profile quick` |" in text
    assert "old" not in text
    assert text.startswith("# Toy\n\n<!-- results:begin -->\n")
    assert text.endswith("<!-- results:end -->\n\nEnd.\n")
    pages.write_readme(run)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "text",
    ["no markers", "<!-- results:end --><!-- results:begin -->", README + "<!-- results:end -->", None],
)
def test_a_readme_without_its_markers_stays_as_it_is(run, text):
    path = run.root / "README.md"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=r"README\.md"):
        pages.write_readme(run)
    assert text is None or path.read_text() == text


# the page as Sphinx reads it, and the script in a browser


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The scoreboard rendered by Sphinx with the book's Markdown reader."""
    application = pytest.importorskip("sphinx.application")
    pytest.importorskip("myst_parser")
    book = make(tmp_path_factory.mktemp("book"), CLAIMS)
    results.write(book.results_file("toy", "quick"), result(book))
    source = tmp_path_factory.mktemp("source")
    pages.write_scoreboard(book, source / "index.md")
    pages.write_status(book, source / "status.md")
    (source / "chapters").mkdir()
    (source / "chapters/toy.md").write_text("---\norphan: true\n---\n# Toy\n")
    (source / "reading-guide.md").write_text("---\norphan: true\n---\n# Guide\n")
    for name in ("index.md", "status.md"):
        text = (source / name).read_text().replace("chapters/toy.ipynb", "chapters/toy.md")
        (source / name).write_text("---\norphan: true\n---\n" + text)
    (source / "conf.py").write_text(
        "extensions = ['myst_parser']\nmyst_enable_extensions = ['dollarmath', 'colon_fence']\nproject = 't'\n"
    )
    out = source / "_build"
    warnings = (source / "warnings.txt").open("w+")
    app = application.Sphinx(source, source, out, out / ".doctrees", "html", status=None, warning=warnings)
    app.build()
    warnings.seek(0)
    return out, warnings.read()


def test_sphinx_reads_the_pages_without_a_warning(built):
    out, warnings = built
    assert warnings == ""
    html = (out / "index.html").read_text()
    table = html[html.index('class="scoreboard') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr") == 4
    assert all(row.count("<td") + row.count("<th") == 7 for row in table.split("<tr")[1:])
    assert 'class="math notranslate' in table
    assert "versions" in (out / "status.html").read_text()


@pytest.mark.browser
def test_the_filter_in_a_browser(built):
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no browser found")
    with playwright.sync_playwright() as tool:
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = tool.chromium.launch(executable_path=chromium, args=arguments, timeout=300_000)
        page = browser.new_page()
        page.set_default_timeout(300_000)
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((built[0] / "index.html").as_uri(), wait_until="domcontentloaded")
        rows = page.locator("table.scoreboard tbody tr:visible")
        assert rows.count() == 3
        page.get_by_label("Verdict").select_option("not tested")
        assert rows.count() == 1
        assert page.locator("#scoreboard-filter [role=status]").inner_text() == "1 of 3 rows"
        page.keyboard.press("Tab")  # the form is reached and left by keyboard
        page.get_by_role("button", name="Show all").press("Enter")
        page.wait_for_function(
            "document.querySelectorAll('table.scoreboard tbody tr:not([hidden])').length === 3"
        )
        assert errors == []
        browser.close()


@pytest.mark.parametrize(
    ("used", "command"),
    [
        ({"profile": "quick", "n": 2}, "repro run toy --profile quick"),
        ({"profile": "quick", "n": 7, "seed": 0}, "repro run toy --profile quick -p n=7"),
    ],
)
def test_the_command_says_where_a_run_differs_from_its_profile(book, used, command):
    held = result(book, provenance={"parameters": used}, run={})
    results.write(book.results_file("toy", "quick"), held)
    assert f"| `{command}` |" in pages.readme_table(book)
