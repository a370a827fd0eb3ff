"""Pages made from the results: the scoreboard, the status page, and the table in the README.

The same claims and results give the same bytes: nothing here asks for the time, the machine or the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from repro.book._environment import repository_url
from repro.book.claim_models import Claim, load
from repro.book.claims import anchor, counts, expected, finding, paper_value
from repro.book.errors import BadInput
from repro.book.files import write_atomically
from repro.book.layout import Book
from repro.book.markup import badge, inline_myst, list_table
from repro.book.results import Results, read
from repro.book.verdicts import VERDICTS, JudgedClaim

__all__ = ["all_results", "readme_table", "scoreboard", "status", "write_readme"]

_PROFILES = ("quick", "paper")
_BEGIN, _END = "<!-- results:begin -->", "<!-- results:end -->"
_NOTICE = "% Made by `repro build` from book/claims and book/results. Changes made here are lost.\n"

_AllResults = Mapping[tuple[str, str], Results]


def all_results(book: Book) -> dict[tuple[str, str], Results]:
    """The committed results of all chapters, by chapter and profile, in reading order."""
    paths = {(c, profile): book.results_file(c, profile) for c in book.chapters() for profile in _PROFILES}
    return {key: read(path) for key, path in paths.items() if path.is_file()}


# --- the scoreboard -----------------------------------------------------------------------------------------------


def scoreboard(book: Book, results: _AllResults) -> str:
    """The page of all claims of all chapters and profiles, as MyST Markdown."""
    rows: list[list[str]] = []
    for chapter in book.chapters():
        run = [profile for profile in _PROFILES if (chapter, profile) in results]
        for claim in load(book.claims_file(chapter)).claims:
            judged = {profile: results[chapter, profile].claims.get(claim.id) for profile in run} or {
                "–": None
            }
            rows += [_claim_row(chapter, profile, claim, found) for profile, found in judged.items()]
    head = ("Claim", "Chapter", "Profile", "Statement", "Paper's value", "Ours", "Verdict")
    counted = [row for profile in _PROFILES if (row := _count_row(results, profile))]
    summary = list_table("verdict-counts", ("Profile", *map(badge, VERDICTS), "Claims"), counted)
    parts = [
        "# Scoreboard\n",
        _NOTICE,
        "Every claim of every paper with its verdict, computed from the values of the last committed run. "
        "What the verdicts mean, and how they are computed, is in the {doc}`reading guide <reading-guide>`. "
        "Intervals are 95 %.\n",
        *([summary] if counted else []),
        _filter({"chapter": book.chapters(), "verdict": VERDICTS, "profile": _PROFILES}),
        list_table("scoreboard", head, rows),
    ]
    return "\n".join(parts)


def _claim_row(chapter: str, profile: str, claim: Claim, judged: JudgedClaim | None) -> list[str]:
    verdict, reason = ("not tested", "not run yet") if judged is None else (judged.verdict, judged.reason)
    several = len(claim.tests) > 1
    ours = [
        f"- `{test.name}`: {finding(test, result)}; claim: {expected(test)}{f', {result.verdict}' * several}"
        for test in claim.tests
        if judged is not None and (result := judged.tests.get(test.name)) is not None
    ]
    return [
        f'<a href="chapters/{escape(chapter)}.html#{anchor(claim.id)}">{escape(claim.id)}</a>',
        f"[{chapter}](chapters/{chapter}.ipynb)",
        profile,
        inline_myst(claim.statement),
        paper_value(claim, inline_myst),
        "\n".join(ours) or "–",
        f"{badge(verdict)} {inline_myst(reason)}",
    ]


def _count_row(results: _AllResults, profile: str) -> list[str]:
    """How many claims of all chapters got which verdict in a profile; empty for one that nobody ran."""
    judged = {
        (chapter, claim): verdict
        for (chapter, its_profile), result in results.items()
        if its_profile == profile
        for claim, verdict in result.claims.items()
    }
    return [profile, *map(str, counts(judged).values()), str(len(judged))] if judged else []


def _filter(offered: Mapping[str, Any]) -> str:
    """The form above the table, one line of HTML; ``book.js`` shows it, and without scripts the table is whole."""
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
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts(result.claims).items() if n)
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
    """One row a chapter and profile: how many claims got which verdict, and the command that makes it."""
    head = ["Chapter", "Paper", "Profile", *VERDICTS, "Command"]
    lines = [f"| {' | '.join(head)} |", "|---|---|---|" + "--:|" * len(VERDICTS) + "---|"]
    for (chapter, profile), result in all_results(book).items():
        claims = load(book.claims_file(chapter))
        arxiv = claims.paper.arxiv
        paper = (
            f"[arXiv:{arxiv}](https://arxiv.org/abs/{arxiv})" if arxiv else inline_myst(claims.paper.title)
        )
        used = result.provenance.get("parameters") or {}
        own = [
            f" -p {name}={json.dumps(used[name])}"
            for name, size in claims.profiles[result.profile].items()
            if used.get(name, size) != size
        ]
        numbers = map(str, counts(result.claims).values())
        command = f"`repro run {chapter} --profile {profile}{''.join(own)}`"
        cells = [f"[{chapter}](book/chapters/{chapter}.ipynb)", paper, profile, *numbers, command]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


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
