"""Pages made from the results: scoreboard, status, a chapter's first screen, the answers on the landing page, README.

A claim is shown with the answer of the strongest committed profile that tested it: paper, full, quick; exploratory
values only where there is nothing better. The same claims and results give the same bytes: nothing here asks for
the time, the machine or the network.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from repro.book import ledger
from repro.book._environment import repository_url
from repro.book._files import readable, write_atomically
from repro.book._history import doubts
from repro.book._markup import inline_html, rendered
from repro.book._notebooks import LEDGER, displayed, read_notebook, source_of
from repro.book._ruler import ruler
from repro.book.answers import WORDS, JudgedClaim, tally
from repro.book.claims import ChapterClaims, Claim, load
from repro.book.errors import BadInput
from repro.book.layout import PROFILES, Book
from repro.book.results import Results, read

_PROFILES = PROFILES[:0:-1]  # the strongest first
_BEGIN, _END = "<!-- results:begin -->", "<!-- results:end -->"
_NOTICE = "% Made by `repro build` from book/claims and book/results. Changes made here are lost.\n"
_TITLE = re.compile(r"^# +(.+)$", re.MULTILINE)
_NEVER = JudgedClaim(verdict="not tested", sentence="Not run yet.", deciding={}, supporting={})

_AllResults = Mapping[tuple[str, str], Results]


def all_results(book: Book) -> dict[tuple[str, str], Results]:
    """The committed results of all chapters, by chapter and profile, in reading order, the strongest first."""
    paths = {(c, profile): book.results_file(c, profile) for c in book.chapters() for profile in _PROFILES}
    return {key: read(path) for key, path in paths.items() if path.is_file()}


# --- which answer is shown ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """A claim with the answer that pages show, the run it comes from, and why it is exploratory, if it is."""

    claim: Claim
    judged: JudgedClaim
    run: Results | None = None
    doubt: str = ""

    @property
    def profile(self) -> str:
        """The profile of its run."""
        return self.run.profile if self.run else "not run"


@dataclass(frozen=True)
class _Chapter:
    """What the pages show of a chapter: its results, the strongest first, and the answer to each claim.

    ``url`` is the repository's; ``cited`` is BibTeX by what it stands for; ``words`` counts a profile's answers.
    """

    name: str
    title: str
    claims: ChapterClaims
    results: list[Results]
    shown: list[_Shown]
    url: str | None
    cited: dict[str, str]
    words: Mapping[Any, Counter[str]]

    @property
    def page(self) -> str:
        """The address of its page, from the pages beside the folder of chapters."""
        return f"chapters/{self.name}.html"

    @property
    def headlines(self) -> list[_Shown]:
        """The answers that it is about; where the file marks none, the first one."""
        return [each for each in self.shown if each.claim.headline] or self.shown[:1]

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """How many claims and controls have each word."""
        return tally(self.claims, {each.claim.id: each.judged for each in self.shown})

    @property
    def used(self) -> list[Results]:
        """The results from which answers are shown."""
        return [run for run in self.results if run.profile in {each.profile for each in self.shown}]


def _answers(book: Book, results: Results) -> dict[str, _Shown]:
    """A result judged anew, exploratory where there is a doubt."""
    claims, doubted = load(book.claims_file(results.chapter)), doubts(book, results)
    wanted = {each.id in doubted for each in claims.claims}
    judged = {exploratory: results.again(claims, exploratory) for exploratory in wanted}
    return {
        each.id: _Shown(each, judged[each.id in doubted][each.id], results, doubted.get(each.id, ""))
        for each in claims.claims
    }


def chapters(book: Book, results: _AllResults) -> list[_Chapter]:
    """All chapters in reading order, with the answer to each claim from the strongest of the results."""
    found, url, references = [], repository_url(book.root), book.references()
    for name in book.chapters():
        claims = load(book.claims_file(name))
        runs = [results[name, profile] for profile in _PROFILES if (name, profile) in results]
        answers = [_answers(book, run) for run in runs]
        shown = [_strongest([a[claim.id] for a in answers], claim) for claim in claims.claims]
        cells = [c for c in read_notebook(book.notebook(name))["cells"] if c["cell_type"] == "markdown"]
        title = _TITLE.search("\n".join(map(source_of, cells)))
        keys = {"the paper": claims.paper.key} if claims.paper else {}
        keys = {what: key for what, key in (keys | {"the book": Book.key}).items() if key in references}
        cited = {what: references[key] for what, key in keys.items()}
        words = {run.profile: _counted(answered) for run, answered in zip(runs, answers, strict=True)}
        found.append(_Chapter(name, title[1] if title else name, claims, runs, shown, url, cited, words))
    return found


def _counted(answered: Mapping[str, _Shown]) -> Counter[str]:
    return Counter(each.judged.word for each in answered.values())


def _strongest(offered: list[_Shown], claim: Claim) -> _Shown:
    worth = {"not tested": 2, "exploratory": 1}
    return min(offered, key=lambda each: worth.get(each.judged.word, 0), default=_Shown(claim, _NEVER))


def drawn(chapter: _Chapter, title: str = "") -> tuple[str, str, list[tuple[Claim, JudgedClaim]]]:
    """What the ruler takes."""
    return title, chapter.page * bool(title), [(each.claim, each.judged) for each in chapter.shown]


def _listed(found: Mapping[str, int]) -> str:
    return ", ".join(f"{found[word]} {word}" for word in WORDS if found.get(word)) or "none"


# --- a chapter's first screen ---------------------------------------------------------------------------------------


def with_first_screen(chapter: _Chapter, notebook: dict[str, Any], profile: str) -> dict[str, Any]:
    """The executed notebook with what the paper says, what we found and how sure that is right after its title."""
    paper, asked = chapter.claims.paper, " ".join(each.claim.statement for each in chapter.headlines)
    told = rendered(
        "first-screen.html",
        chapter=chapter,
        says=(paper.says or asked) if paper else chapter.claims.question,
        sources=[_source(chapter, run) for run in chapter.used],
        counts={kind: _listed(words) for kind, words in chapter.counts.items()},
        profile=profile,
        ruler=ruler([drawn(chapter)]),
    )
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and _TITLE.search(text := source_of(cell)):
            cell["source"] = _TITLE.sub(lambda title: f"{title[0]}\n\n{told}", text, count=1)
            break
    origins: dict[str, Any] = {"shown": {each.claim.id: each for each in chapter.shown}, "url": chapter.url}
    origins["code"] = _named_cells(notebook, chapter)
    for data in displayed(notebook, LEDGER):
        data |= ledger.shown(chapter.claims, data[LEDGER], **origins)
    return notebook


def _named_cells(notebook: dict[str, Any], chapter: _Chapter) -> dict[str, list[str]]:
    """Put an anchor before each cell that measures a claim; the anchors by claim."""
    cells, found = [], defaultdict[str, list[str]](list)
    for cell in notebook["cells"]:
        text = source_of(cell) if ".measure(" in source_of(cell) else ""
        for claim in (each.id for each in chapter.claims.claims if f'"{each.id}"' in text):
            place = f"measures-{claim.lower()}-{len(found[claim]) + 1}"
            found[claim].append(place)
            anchor = {"cell_type": "markdown", "metadata": {}, "source": f'<div id="{place}"></div>'}
            cells.append({"id": place, **anchor})
        cells.append(cell)
    notebook["cells"] = cells
    return found


def _source(chapter: _Chapter, run: Results) -> dict[str, Any]:
    """How many answers a run gives, of how many tests with how many seeds, and how many at the paper's scale."""
    group = [each for each in chapter.shown if each.profile == run.profile]
    tests = [test for each in group for test in each.judged.deciding.values() if test.values]
    paper = sum(test.scale == "paper" for test in tests)
    return {"run": run, "n": len(group), "seeds": sorted(len(test.values) for test in tests), "paper": paper}


# --- the landing page and the scoreboard ------------------------------------------------------------------------------


def landing(text: str, found: Sequence[_Chapter]) -> str:
    """The first page with the answers of each chapter (``<!-- answers: CHAPTER -->``) and the ``<!-- ruler -->``."""
    for chapter in found:
        answers = rendered("answers.html", chapter=chapter, page=chapter.page)
        text = text.replace(f"<!-- answers: {chapter.name} -->", answers)
    return text.replace("<!-- ruler -->", _all_rulers(found))


def _all_rulers(found: Sequence[_Chapter]) -> str:
    """The ruler of all chapters, a column each."""
    names = ((each, inline_html(each.title.partition(":")[0])) for each in found)
    return ruler([drawn(each, f'<a href="{each.page}">{name}</a>') for each, name in names], dense=True)


def scoreboard(found: Sequence[_Chapter]) -> str:
    """The page of all claims of all chapters, a line a claim, as MyST Markdown."""
    counted = [(f'<a href="{c.page}">{c.name}</a>', *map(_listed, c.counts.values())) for c in found]
    head, label = ("Chapter", "Claims", "Controls"), "Answers by chapter"
    counts = rendered("table.html", label=label, head=head, rows=counted, name="counts")
    pieces = {"notice": _NOTICE, "counts": counts, "ruler": _all_rulers(found)}
    return rendered("scoreboard.md", chapters=found, **pieces)


# --- the status page ----------------------------------------------------------------------------------------------


def status(book: Book, results: _AllResults, found: Sequence[_Chapter] = ()) -> str:
    """The page that says when each chapter ran, on what, with which versions, and what it cost.

    Answers of ``found`` are not judged again.
    """
    known = {id(run): chapter.words[run.profile] for chapter in found for run in chapter.results}
    runs = []
    for run in results.values():
        budget = load(book.claims_file(run.chapter)).budget[run.profile]
        words = known.get(id(run)) or _counted(_answers(book, run))
        runs.append((run, budget, _listed(words)))
    ran = {chapter for chapter, _ in results}
    versions = {f"{c}, {p}": run.provenance.get("versions") or {} for (c, p), run in results.items()}
    return rendered(
        "status.md",
        notice=_NOTICE,
        url=repository_url(book.root),
        runs=runs,
        never=[chapter for chapter in book.chapters() if chapter not in ran],
        versions=versions,
        packages=sorted({package for held in versions.values() for package in held}),
    )


# --- the README ---------------------------------------------------------------------------------------------------


def readme_table(book: Book) -> str:
    """One row a chapter: what the strongest profiles answer, and the commands that make them."""
    found = chapters(book, all_results(book))
    return rendered("readme.md", chapters=found, listed=_listed, command=_command)


def _command(chapter: _Chapter, run: Results) -> str:
    """What makes this result; it names the parameters in which it differs from its profile."""
    used = run.provenance.get("parameters") or {}
    own = [
        f" -p {name}={json.dumps(used[name])}"
        for name, size in chapter.claims.profiles[run.profile].items()
        if used.get(name, size) != size
    ]
    return f"repro run {chapter.name} --profile {run.profile}{''.join(own)}"


def write_readme(book: Book) -> None:
    """Put the table between the two markers of the README and leave the rest as it is.

    Raises ``BadInput`` when the README does not hold each marker once, the first before the second.
    """
    path = book.root / "README.md"
    with readable(path, "the table of results stands in it"):
        text = path.read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1 or text.index(_BEGIN) > text.index(_END):
        raise BadInput(f"{path.name} must hold the lines {_BEGIN} and {_END} once each, in this order")
    before, rest = text.split(_BEGIN)
    write_atomically(path, f"{before}{_BEGIN}\n\n{readme_table(book)}\n{_END}{rest.split(_END)[1]}")
