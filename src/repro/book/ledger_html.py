"""The ledger as an HTML table: the claim with the paper's value and ours, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from repro.book.claim_models import ChapterClaims, Claim, ClaimTest
from repro.book.markup import badge, inline_html, number
from repro.book.verdicts import VERDICTS, JudgedClaim, JudgedTest

__all__ = ["anchor", "expected", "found", "table"]

_WHAT = {"t": "mean", "bootstrap-median": "median", "wilson": "share"}


def anchor(claim: str) -> str:
    """The id of a claim's row on its chapter's page."""
    return f"claim-{claim.lower()}"


def expected(test: ClaimTest) -> str:
    """What the claim says of the test's metric, in words."""
    return f"{test.direction} {' and '.join(number(value) for value in test.thresholds)}"


def found(test: ClaimTest, judged: JudgedTest) -> str:
    """What the run found, in words: estimate, interval and number of seeds."""
    if not judged.values:
        return "not measured"
    n = len(judged.values)
    seeds = f"{n} seed{'s' * (n != 1)}"
    if judged.estimate is None:
        return f"not judged, {seeds}"
    inside = f"[{number(judged.low)}, {number(judged.high)}]"
    return f"{_WHAT[test.interval]} {number(judged.estimate)} {inside} over {seeds}"


def _paper(claim: Claim) -> str:
    if claim.paper_value is None:
        return "unknown"
    value = claim.paper_value if isinstance(claim.paper_value, str) else number(claim.paper_value)
    return f"{inline_html(value)} ({inline_html(claim.paper_value_is or '')})"


def _test(test: ClaimTest, judged: JudgedTest, several: bool) -> str:
    verdict = f" {badge(judged.verdict)}" if several else ""
    return (
        f"<li>{inline_html(test.metric)}: <strong>{found(test, judged)}</strong>; "
        f"claim: {expected(test)}.{verdict}</li>"
    )


def _row(claim: Claim, judged: JudgedClaim, with_id: bool) -> str:
    tests = "".join(_test(test, judged.tests[test.name], len(claim.tests) > 1) for test in claim.tests)
    identity = f' id="{anchor(claim.id)}"' if with_id else ""
    return (
        f'<tr{identity}><th scope="row">{escape(claim.id)}</th>'
        f"<td><strong>{inline_html(claim.statement)}</strong><br>"
        f"<small>{escape(claim.kind)}; {inline_html(claim.where)}. Paper's value: {_paper(claim)}.</small>"
        f"<ul>{tests}</ul></td>"
        f"<td>{badge(judged.verdict)}<br><small>{inline_html(judged.reason)}</small></td></tr>"
    )


def table(
    chapter: ChapterClaims,
    judged: Mapping[str, JudgedClaim],
    profile: str,
    only: Sequence[str] | None = None,
) -> str:
    """The table of all claims, or of the claims ``only``.

    The whole table gives its rows ids, so that other pages can link to a claim: show it once on a page.
    """
    claims = [claim for claim in chapter.claims if only is None or claim.id in only]
    verdicts = [judged[claim.id].verdict for claim in claims]
    counted = ", ".join(f"{verdicts.count(word)} {word}" for word in VERDICTS if word in verdicts)
    head = "".join(
        f'<th scope="col">{title}</th>'
        for title in ("Claim", "What the paper claims, and what this run found", "Verdict")
    )
    rows = "".join(_row(claim, judged[claim.id], only is None) for claim in claims)
    label = "Claims and verdicts" if only is None else f"Verdicts on {escape(', '.join(only))}"
    return (
        f'<div class="ledger" role="region" aria-label="{label}" tabindex="0">'
        f'<table class="dataframe">'
        f"<caption>Profile {escape(profile)}: {counted}. Intervals are 95 %.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
