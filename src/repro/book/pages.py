"""Pages made from the results: scoreboard, status, a chapter's first screen, the answers on the landing page, README.

A claim is shown with the answer of the strongest committed profile that tested it: paper, full, quick; exploratory
values only where there is nothing better. The same claims and results give the same bytes: nothing here asks for
the time, the machine or the network.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from repro.book.answers import CONTROL_VERDICTS, VERDICTS, JudgedClaim, tally
from repro.book.claims import ChapterClaims, Claim, load
from repro.book.errors import BadInput
from repro.book.files import write_atomically
from repro.book.layout import PROFILES, Book
from repro.book.ledger import anchor, details, paper_value
from repro.book.markup import badge, inline_html, inline_myst, list_table
from repro.book.notebooks import read_notebook, source_of
from repro.book.results import Results, again, read
from repro.book.ruler import ruler
from repro.book.source_links import repository_url

__all__ = [
    *("Chapter", "all_results", "chapters", "landing", "readme_table"),
    *("scoreboard", "status", "with_first_screen", "write_readme"),
]

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
    """A claim with the answer that pages show, the profile it comes from, and why it is exploratory, if it is."""

    claim: Claim
    judged: JudgedClaim
    profile: str = "not run"
    doubt: str = ""


@dataclass(frozen=True)
class Chapter:
    """What the pages show of a chapter: its results, the strongest first, and the answer to each claim."""

    name: str
    title: str
    claims: ChapterClaims
    results: list[Results]
    shown: list[_Shown]

    @property
    def headlines(self) -> list[_Shown]:
        """The answers of the first screen; where the file marks none, the first one."""
        return [each for each in self.shown if each.claim.headline] or self.shown[:1]

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """How many claims and controls have each word."""
        return tally(self.claims, {each.claim.id: each.judged for each in self.shown})

    def ruler(self, page: str, title: str = "") -> tuple[str, str, list[tuple[Claim, JudgedClaim]]]:
        """What the ruler draws of it."""
        return title, page, [(each.claim, each.judged) for each in self.shown]


def _doubts(book: Book, results: Results) -> dict[str, str]:
    """Why claims of a result are exploratory."""
    return dict.fromkeys(results.claims, "its seeds are planning seeds") if results.exploratory else {}


def _answers(book: Book, results: Results) -> dict[str, _Shown]:
    """A result judged anew, exploratory where there is a doubt."""
    claims, doubts = load(book.claims_file(results.chapter)), _doubts(book, results)
    judged, explored = (again(claims, results, exploratory) for exploratory in (False, True))
    return {
        claim.id: _Shown(
            claim,
            (explored if claim.id in doubts else judged)[claim.id],
            results.profile,
            doubts.get(claim.id, ""),
        )
        for claim in claims.claims
    }


def chapters(book: Book, results: _AllResults) -> list[Chapter]:
    """All chapters in reading order, with the answer to each claim from the strongest of the results."""
    found = []
    for name in book.chapters():
        claims = load(book.claims_file(name))
        runs = [results[name, profile] for profile in _PROFILES if (name, profile) in results]
        answers = [_answers(book, run) for run in runs]
        shown = [_strongest([a[claim.id] for a in answers], claim) for claim in claims.claims]
        cells = [c for c in read_notebook(book.notebook(name))["cells"] if c["cell_type"] == "markdown"]
        title = _TITLE.search("\n".join(map(source_of, cells)))
        found.append(Chapter(name, title[1] if title else name, claims, runs, shown))
    return found


def _strongest(offered: list[_Shown], claim: Claim) -> _Shown:
    worth = {"not tested": 2, "exploratory": 1}
    return min(offered, key=lambda each: worth.get(each.judged.word, 0), default=_Shown(claim, _NEVER))


# --- pieces ---------------------------------------------------------------------------------------------------------


def _in_short(shown: _Shown) -> str:
    """The answer without what was asked, in Markdown; of several tests, each with its name."""
    tests = {name: test for name, test in shown.judged.deciding.items() if test.estimate is not None}
    if not tests:
        return shown.judged.sentence
    return "; ".join(f"{name}: {test.words}" * (len(tests) > 1) or test.words for name, test in tests.items())


def _link(shown: _Shown, page: str = "", text: str = "") -> str:
    return f'<a href="{escape(page)}#{anchor(shown.claim.id)}">{text or escape(shown.claim.id)}</a>'


def _badge(shown: _Shown) -> str:
    return badge(shown.judged.word, shown.judged.scale)


def _listed(found: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {word}" for word, n in found.items()) or "none"


# --- a chapter's first screen ---------------------------------------------------------------------------------------


def with_first_screen(chapter: Chapter, notebook: dict[str, Any], profile: str) -> dict[str, Any]:
    """The executed notebook with what the paper says, what we found and how sure that is right after its title."""
    told = f"\n\n{_first_screen(chapter, profile)}\n"
    for cell in notebook["cells"]:
        text = source_of(cell)
        if cell["cell_type"] == "markdown" and _TITLE.search(text):
            return notebook | {
                "cells": [
                    other
                    if other is not cell
                    else cell | {"source": _TITLE.sub(lambda m: m[0] + told, text, count=1)}
                    for other in notebook["cells"]
                ]
            }
    return notebook


def _first_screen(chapter: Chapter, profile: str) -> str:
    says = chapter.claims.paper.says or " ".join(each.claim.statement for each in chapter.headlines)
    found = "".join(
        f"<li>{_badge(each)} {_link(each)}: {inline_html(each.judged.sentence)}</li>"
        for each in chapter.headlines
    )
    return (
        '<section class="in-short" aria-label="In short">'
        f"<p><strong>The paper says.</strong> {inline_html(says)}</p>"
        f'<p><strong>We found.</strong></p><ul class="answers">{found}</ul>'
        f"<p><strong>How sure?</strong> {_how_sure(chapter, profile)}</p>{ruler([chapter.ruler('')])}</section>"
    )


def _how_sure(chapter: Chapter, profile: str) -> str:
    """Where the answers come from, how many there are, what is open, and what is only exploratory."""
    if not chapter.results:
        return "This chapter has not run yet."
    told = []
    for name, group in _by_profile(chapter).items():
        tests = [t for each in group for t in each.judged.deciding.values() if t.values]
        n = sorted({len(test.values) for test in tests})
        seeds = f", {n[0]} to {n[-1]} seeds" if len(n) > 1 else f", {n[0]} seeds" if n else ""
        small = sum(test.scale == "small" for test in tests)
        scale = (
            "small scale"
            if small == len(tests)
            else f"{len(tests) - small} of {len(tests)} tests at the paper’s scale"
        )
        told.append(f"Profile <em>{name}</em> ({len(group)} claims and controls{seeds}, {scale}).")
    counts = chapter.counts
    told.append(f"Claims: {_listed(counts['claims'])}. Controls: {_listed(counts['controls'])}.")
    unanswered = [
        _link(each) for each in chapter.shown if each.judged.word in ("undecided", "open", "not tested")
    ]
    told += [f"Without an answer: {', '.join(unanswered)}."] * bool(unanswered)
    for doubt in dict.fromkeys(each.doubt for each in chapter.shown if each.doubt):
        ids = [_link(each) for each in chapter.shown if each.doubt == doubt]
        which = "All" if len(ids) == len(chapter.shown) else ", ".join(ids)
        told.append(f"{which} exploratory, shown and not judged: {escape(doubt)}.")
    if any(each.judged.word not in ("exploratory", "not tested") for each in chapter.shown):
        told.append(
            "The tests were committed before the run that answers them, as <code>repro check --history</code> proves."
        )
    told.append(f"The figures below are of this page’s own run, profile <em>{profile}</em>.")
    return " ".join(told)


def _by_profile(chapter: Chapter) -> dict[str, list[_Shown]]:
    found: dict[str, list[_Shown]] = {}
    for each in chapter.shown:
        found.setdefault(each.profile, []).append(each)
    return found


# --- the landing page -----------------------------------------------------------------------------------------------


def landing(text: str, found: Iterable[Chapter]) -> str:
    """The first page with the answers of each chapter (``<!-- answers: CHAPTER -->``) and the ``<!-- ruler -->``."""
    found = list(found)
    for chapter in found:
        page = f"chapters/{chapter.name}.html"
        answers = "".join(
            f"<li>{_badge(each)} {_link(each, page, inline_html(each.claim.statement))}</li>"
            for each in chapter.headlines
        )
        text = text.replace(f"<!-- answers: {chapter.name} -->", f'<ul class="answers">{answers}</ul>')
    return text.replace("<!-- ruler -->", _all_rulers(found))


def _all_rulers(found: Iterable[Chapter]) -> str:
    """The ruler of all chapters, a column each."""
    pages = ((f"chapters/{chapter.name}.html", chapter) for chapter in found)
    return ruler(
        [
            chapter.ruler(page, f'<a href="{page}">{inline_html(chapter.title.partition(":")[0])}</a>')
            for page, chapter in pages
        ],
        dense=True,
    )


# --- the scoreboard -------------------------------------------------------------------------------------------------


def scoreboard(found: Iterable[Chapter]) -> str:
    """The page of all claims of all chapters, a line a claim, as MyST Markdown."""
    found = list(found)
    words = [*VERDICTS, *(word for word in CONTROL_VERDICTS if word not in VERDICTS), "exploratory"]
    parts = [
        "# Scoreboard\n",
        _NOTICE,
        "Every claim of every paper with its answer, from the strongest profile that was run. A click on a line shows "
        "what was asked, with which margin and why, and what was found. What the words mean is in the "
        "{doc}`reading guide <reading-guide>`.\n",
        list_table("counts", ("Chapter", "Claims", "Controls"), map(_counted, found)),
        f"{_all_rulers(found)}\n",
        _filter({"chapter": [chapter.name for chapter in found], "verdict": words}),
    ]
    for chapter in found:
        lines = "".join(_line(f"chapters/{chapter.name}.html", each) for each in chapter.shown)
        parts += [f"## {chapter.title}\n", f'<ul class="scoreboard" data-chapter="{chapter.name}">{lines}</ul>\n']
    return "\n".join(parts)


def _counted(chapter: Chapter) -> list[str]:
    counts = chapter.counts
    return [f"[{chapter.name}](chapters/{chapter.name}.ipynb)", *map(_listed, counts.values())]


def _line(page: str, shown: _Shown) -> str:
    claim, judged = shown.claim, shown.judged
    about = f"{escape(claim.kind)}; {inline_html(claim.where)}. Paper’s value: {inline_html(paper_value(claim))}. "
    about += f"Profile {shown.profile}." + f" Exploratory: {escape(shown.doubt)}." * bool(shown.doubt)
    return (
        f'<li data-verdict="{judged.word}">{_link(shown, page)} {_badge(shown)} '
        f"<details><summary>{inline_html(claim.statement)} <small>{inline_html(_in_short(shown))} "
        f"<em>({shown.profile})</em></small></summary>"
        f"<p>{inline_html(judged.sentence)}</p>{details(claim, judged)}<p><small>{about}</small></p></details></li>"
    )


def _filter(offered: Mapping[str, Iterable[str]]) -> str:
    """The form above the lists, one line of HTML; ``book.js`` shows it, and without scripts the lists are whole."""
    selects = " ".join(
        f'<label>{name.capitalize()} <select data-filter="{name}"><option value="">all</option>'
        + "".join(f'<option value="{escape(one)}">{escape(one)}</option>' for one in options)
        + "</select></label>"
        for name, options in offered.items()
    )
    return (
        '<form id="scoreboard-filter" aria-label="Filter the claims" hidden>'
        f'{selects} <button type="reset">Show all</button> <span role="status"></span></form>\n'
    )


# --- the status page ----------------------------------------------------------------------------------------------


def status(book: Book, results: _AllResults) -> str:
    """The page that says when each chapter ran, on what, with which versions, and what it cost."""
    url = repository_url(book.root)
    head = (
        *("Chapter", "Profile", "Result", "Seconds, of budget"),
        *("Peak MB, of budget", "Commit", "Date", "Machine"),
    )
    rows = [_run_row(book, result, url) for result in results.values()]
    rows += [
        [f"[{c}](chapters/{c}.ipynb)", "–", "not run yet", *["–"] * 5]
        for c in book.chapters()
        if not any(chapter == c for chapter, _ in results)
    ]
    parts = [
        "# Status\n",
        _NOTICE,
        "The last committed run of each chapter and profile that ended well, with its date. Seconds and "
        "memory stand beside what the profile allows.\n",
        list_table("run-status", head, rows),
        _versions(results),
    ]
    return "\n".join(parts)


def _run_row(book: Book, result: Results, url: str | None) -> list[str]:
    budget, run = load(book.claims_file(result.chapter)).budget[result.profile], result.run
    told = _listed(Counter(each.judged.word for each in _answers(book, result).values()))
    commit = str(result.provenance.get("commit") or "")
    short = f"`{commit[:10]}`" if commit else "–"
    linked = f"[{short}]({url}/commit/{commit})" if url and commit else short
    machine = run.get("machine") or {}
    parts = [machine.get("system"), machine.get("architecture")]
    parts += [f"{machine['cores']} cores"] if "cores" in machine else []
    parts += machine.get("accelerators", [])
    return [
        f"[{result.chapter}](chapters/{result.chapter}.ipynb)",
        result.profile,
        told,
        f"{run['seconds']:.0f} of {budget.seconds:.0f}" if "seconds" in run else "–",
        f"{run['peak_memory_mb']:.0f} of {budget.memory_mb:.0f}" if "peak_memory_mb" in run else "–",
        linked + " with local changes" * bool(result.provenance.get("dirty")),
        str(run.get("finished") or "–")[:10],
        inline_myst(", ".join(filter(None, parts))) or "–",
    ]


def _versions(results: _AllResults) -> str:
    """Packages as rows, runs as columns."""
    held = {key: result.provenance.get("versions") or {} for key, result in results.items()}
    packages = sorted({package for versions in held.values() for package in versions})
    if not packages:
        return ""
    head = ("Package", *(f"{chapter}, {profile}" for chapter, profile in held))
    rows = [[f"`{each}`", *(str(versions.get(each, "–")) for versions in held.values())] for each in packages]
    return "## Versions\n\n" + list_table("versions", head, rows)


# --- the README ---------------------------------------------------------------------------------------------------


def readme_table(book: Book) -> str:
    """One row a chapter: what the strongest profiles answer, and the commands that make them."""
    head = ["Chapter", "Paper", "Profile", "yes", "no", "partly", "open", "not tested or exploratory"]
    head += ["controls passed", "failed", "open", "Command"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|" + "--:|" * 8 + "---|"]
    for chapter in chapters(book, all_results(book)):
        paper = chapter.claims.paper
        where = (
            f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
            if paper.arxiv
            else inline_myst(paper.title)
        )
        used = [run for run in chapter.results if run.profile in _by_profile(chapter)]
        claims, controls = chapter.counts["claims"], chapter.counts["controls"]
        numbers = [claims[word] for word in ("reproduced", "not reproduced", "partly", "undecided")]
        numbers += [
            claims["not tested"] + claims["exploratory"],
            *(controls[w] for w in ("passed", "failed", "open")),
        ]
        cells = [f"[{chapter.name}](book/chapters/{chapter.name}.ipynb)", where]
        cells += [", ".join(run.profile for run in used) or "not run yet", *map(str, numbers)]
        cells += ["<br>".join(f"`{_command(chapter, run)}`" for run in used) or "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _command(chapter: Chapter, run: Results) -> str:
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
    if not path.is_file():
        raise BadInput(f"{path.name} is missing: the table of results stands in it")
    text = path.read_text(encoding="utf-8")
    if text.count(_BEGIN) != 1 or text.count(_END) != 1 or text.index(_BEGIN) > text.index(_END):
        raise BadInput(f"{path.name} must hold the lines {_BEGIN} and {_END} once each, in this order")
    before, rest = text.split(_BEGIN)
    write_atomically(path, f"{before}{_BEGIN}\n\n{readme_table(book)}\n{_END}{rest.split(_END)[1]}")
