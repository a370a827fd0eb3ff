"""Pages made from the results: the scoreboard, the status page, and the table in the README.

The same claims and results give the same bytes: nothing here asks for the time, the machine or the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path

from repro.book.claim_models import Claim, load
from repro.book.claims import counts
from repro.book.errors import BadInput
from repro.book.files import write_atomically
from repro.book.layout import Book
from repro.book.ledger_html import anchor, expected, found
from repro.book.markup import badge, inline_myst, list_table, number
from repro.book.results import Results, read
from repro.book.scoreboard_filter import SCRIPT, controls
from repro.book.status_page import NOTICE, status
from repro.book.verdicts import VERDICTS, JudgedClaim

__all__ = [
    "all_results",
    "readme_table",
    "scoreboard",
    "status",
    "write_readme",
    "write_scoreboard",
    "write_status",
]

JUDGED_PROFILES = ("quick", "paper")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

AllResults = Mapping[tuple[str, str], Results]


def all_results(book: Book) -> dict[tuple[str, str], Results]:
    """The committed results of all chapters, by chapter and profile, in reading order."""
    wanted = [(chapter, profile) for chapter in book.chapters() for profile in JUDGED_PROFILES]
    return {
        (chapter, profile): read(book.results_file(chapter, profile))
        for chapter, profile in wanted
        if book.results_file(chapter, profile).is_file()
    }


def _ours(claim: Claim, judged: JudgedClaim | None) -> str:
    """One line a test: what was measured, what was found, what the claim says."""
    if judged is None:
        return "–"
    told = []
    for test in claim.tests:
        if (result := judged.tests.get(test.name)) is not None:
            verdict = f", {result.verdict}" if len(claim.tests) > 1 else ""
            told.append(f"- `{test.name}`: {found(test, result)}; claim: {expected(test)}{verdict}")
    return "\n".join(told) or "–"


def _paper(claim: Claim) -> str:
    if claim.paper_value is None:
        return "unknown"
    value = claim.paper_value if isinstance(claim.paper_value, str) else number(claim.paper_value)
    return f"{inline_myst(value)} ({inline_myst(claim.paper_value_is or '')})"


def _claim_row(chapter: str, profile: str, claim: Claim, judged: JudgedClaim | None) -> list[str]:
    verdict = "not tested" if judged is None else judged.verdict
    reason = "not run yet" if judged is None else judged.reason
    return [
        f'<a href="chapters/{escape(chapter)}.html#{anchor(claim.id)}">{escape(claim.id)}</a>',
        f"[{chapter}](chapters/{chapter}.ipynb)",
        profile,
        inline_myst(claim.statement),
        _paper(claim),
        _ours(claim, judged),
        f"{badge(verdict)} {inline_myst(reason)}",
    ]


def scoreboard(book: Book, results: AllResults | None = None) -> str:
    """The page of all claims of all chapters and profiles, as MyST Markdown."""
    results = all_results(book) if results is None else results
    rows: list[list[str]] = []
    for chapter in book.chapters():
        claims = load(book.claims_file(chapter))
        run = [profile for profile in JUDGED_PROFILES if (chapter, profile) in results]
        for claim in claims.claims:
            for profile in run:
                rows.append(
                    _claim_row(chapter, profile, claim, results[chapter, profile].claims.get(claim.id))
                )
            if not run:
                rows.append(_claim_row(chapter, "–", claim, None))
    summary = [_count_row(results, profile) for profile in JUDGED_PROFILES if _of(results, profile)]
    head = ("Claim", "Chapter", "Profile", "Statement", "Paper's value", "Ours", "Verdict")
    parts = [
        "# Scoreboard\n",
        NOTICE,
        "Every claim of every paper with its verdict, computed from the values of the last committed run. "
        "What the verdicts mean, and how they are computed, is in the {doc}`reading guide <reading-guide>`. "
        "Intervals are 95 %.\n",
        list_table("verdict-counts", ("Profile", *map(badge, VERDICTS), "Claims"), summary)
        if summary
        else "",
        controls(book.chapters(), VERDICTS, JUDGED_PROFILES),
        list_table("scoreboard", head, rows),
        SCRIPT,
    ]
    return "\n".join(part for part in parts if part)


def _of(results: AllResults, profile: str) -> list[Results]:
    return [result for (_, its_profile), result in results.items() if its_profile == profile]


def _count_row(results: AllResults, profile: str) -> list[str]:
    judged = {(r.chapter, claim): found for r in _of(results, profile) for claim, found in r.claims.items()}
    return [profile, *(str(n) for n in counts(judged).values()), str(len(judged))]


def write_scoreboard(book: Book, path: Path | None = None, results: AllResults | None = None) -> Path:
    """Write the scoreboard to ``path`` (default: the book's own ``book/scoreboard.md``)."""
    path = path or book.root / "book" / "scoreboard.md"
    write_atomically(path, scoreboard(book, results))
    return path


def write_status(book: Book, path: Path | None = None, results: AllResults | None = None) -> Path:
    """Write the status page to ``path`` (default: the book's own ``book/status.md``)."""
    path = path or book.root / "book" / "status.md"
    write_atomically(path, status(book, all_results(book) if results is None else results))
    return path


def readme_table(book: Book, results: AllResults | None = None) -> str:
    """One row a chapter and profile: how many claims got which verdict, and the command that makes it."""
    results = all_results(book) if results is None else results
    head = ["Chapter", "Paper", "Profile", *VERDICTS, "Command"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|" + "--:|" * len(VERDICTS) + "---|"]
    for (chapter, profile), result in results.items():
        paper = load(book.claims_file(chapter)).paper
        link = f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"
        known = link if paper.arxiv else inline_myst(paper.title)
        numbers = [str(n) for n in counts(result.claims).values()]
        cells = [f"[{chapter}](book/chapters/{chapter}.ipynb)", known, profile, *numbers]
        lines.append(f"| {' | '.join(cells)} | `{_command(book, result)}` |")
    return "\n".join(lines) + "\n"


def _command(book: Book, result: Results) -> str:
    """The command that makes a result, with the parameters in which the run differs from its profile."""
    sizes = load(book.claims_file(result.chapter)).profiles[result.profile]
    used = result.provenance.get("parameters") or {}
    own = [
        f" -p {name}={json.dumps(used[name])}" for name in sizes if used.get(name, sizes[name]) != sizes[name]
    ]
    return f"repro run {result.chapter} --profile {result.profile}{''.join(own)}"


def write_readme(book: Book, path: Path | None = None, results: AllResults | None = None) -> Path:
    """Put the table between the two markers of the README and leave the rest as it is.

    Raises ``BadInput`` when the README does not hold each marker once, the first before the second.
    """
    path = path or book.root / "README.md"
    if not path.is_file():
        raise BadInput(f"{path.name} is missing: the table of results stands in it")
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BadInput(f"{path.name} must hold the lines {BEGIN} and {END} once each, in this order")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    write_atomically(path, f"{before}{BEGIN}\n\n{readme_table(book, results)}\n{END}{after}")
    return path
