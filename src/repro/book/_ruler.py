"""The ruler: one picture of all deciding tests, each in units of the smallest effect that would matter.

The threshold of a test stands at 0 and its margin at 1 (mirrored for *below*): an interval that lies right of 0 says
yes, one left of 1 says no. The two bounds of a *between* stand at 0 and 2, half its width being the unit, in brackets
of their own: inside is yes. The worst case is a point, in units of its threshold.

The picture is SVG whose places are percentages, so that it is as wide as its column and its letters keep their size.
Each test is a link with a title, which is also what a screen reader says.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from math import inf

from repro.book._markup import anchor
from repro.book.answers import JudgedClaim, JudgedTest
from repro.book.claims import Claim, DecidingTest

_LOW, _HIGH = -2.0, 3.0  # the scale: threshold and margin stand in its middle
_INSET = 0.15  # how far from the ends of the scale a mark stays that belongs beyond them
_HEAD = 44  # pixels above the first test
_LETTERS = 19  # of a label
_SIGNS = {"yes": "✓", "no": "✗", "open": "?", "exploratory": "~", "not tested": "–"}
_MARKS = {
    "yes": '<circle r="3.4" class="dot"/>',
    "no": '<path d="M0-4.2 4.2 0 0 4.2-4.2 0z" class="dot"/>',
    "open": '<path d="M-3-3H3V3H-3z" class="dot"/>',
    "exploratory": '<circle r="2.6" class="dot"/>',
}
_ARROWS = ('<path d="M4-3.5 0 0l4 3.5"/>', '<path d="M-4-3.5 0 0l-4 3.5"/>')
_BRACKETS = ('<path d="M3-5H0V5H3"/>', '<path d="M-3-5H0V5H-3"/>')
_CAPTION = (
    "A line is the 95 % interval of a deciding test in units of its margin, the smallest effect that would matter. "
    "Right of 0 it says yes ({yes}), left of 1 no ({no}); it may still be open ({open}), as a chapter’s tests are "
    "corrected together. Filled: the paper’s scale, hollow: small scale, pale ({exploratory}): exploratory. A mark "
    "alone is a worst case, an arrow goes on, and a value is to lie between [&nbsp;]."
)


@dataclass(frozen=True)
class _Size:
    """Pixels of a test, of what parts two claims, and of the room for labels and signs at the sides."""

    step: int
    gap: int
    labels: int
    signs: int


_ROOMY, _DENSE = _Size(step=14, gap=0, labels=122, signs=20), _Size(step=5, gap=6, labels=34, signs=0)


def ruler(
    chapters: Iterable[tuple[str, str, Sequence[tuple[Claim, JudgedClaim]]]], dense: bool = False
) -> str:
    """The deciding tests of one or several chapters, as HTML on one line.

    A chapter is its title (HTML, may be empty), the address of its page (empty on the page itself), and its claims
    with their answers; controls stand below the claims. ``dense`` has a label a claim and not one a test.
    """
    size = _DENSE if dense else _ROOMY
    pictures = "".join(
        f"<div>{f'<p>{title}</p>' * bool(title)}{_picture(page, part, size)}</div>"
        for title, page, claims in chapters
        for part in ([claims] if dense else _halves(claims))
    )
    key = '&#8288;<svg class="{}" viewBox="-6 -6 12 12">{}</svg>&#8288;'  # a line does not end beside it
    keys = {word: key.format(word, mark) for word, mark in _MARKS.items()}
    return (
        f'<figure class="ruler{" ruler-dense" * dense}"><div>{pictures}</div>'
        f"<figcaption>{_CAPTION.format(**keys)}</figcaption></figure>"
    )


def _halves(claims: Sequence[tuple[Claim, JudgedClaim]]) -> list[Sequence[tuple[Claim, JudgedClaim]]]:
    """Claims, and then controls, in two columns of about as many tests."""
    ordered = sorted(claims, key=lambda each: each[0].kind == "control")
    ends = list(accumulate(len(claim.deciding) for claim, _ in ordered))
    cut = bisect_left(ends, ends[-1] / 2) + 1
    return list(filter(None, (ordered[:cut], ordered[cut:])))


def _picture(page: str, claims: Sequence[tuple[Claim, JudgedClaim]], size: _Size) -> str:
    rows, y = [], _HEAD
    for controls in (False, True):
        group = [each for each in claims if (each[0].kind == "control") is controls]
        if controls and group:
            y += 18
            rows.append(f'<text x="{-size.labels}" y="{y - 4}" class="of">Controls</text>')
        for claim, judged in group:
            for test in claim.deciding:
                rows.append(_row(page, claim, test, judged, y + size.step / 2, size))
                y += size.step
            y += size.gap
    zero, one = _percent(0), _percent(1)
    head = "".join(
        f'<line x1="{at}" x2="{at}" y1="8" y2="{y + 2}" class="guide"/>'
        f'<text x="{at}" y="42" text-anchor="middle">{name}</text>'
        for at, name in ((zero, 0), (one, 1))
    )
    head += (
        f'<g class="no"><line x1="0" x2="{one}" y1="14" y2="14"/><text x="0" y="10">✗ no</text></g>'
        f'<g class="yes"><line x1="{zero}" x2="100%" y1="28" y2="28"/>'
        '<text x="100%" y="24" text-anchor="end">yes ✓</text></g>'
    )
    return (
        f'<svg role="group" aria-label="Deciding tests in units of their margins" height="{y + 4}" '
        f'style="margin:0 {size.signs}px 0 {size.labels}px;width:calc(100% - {size.labels + size.signs}px)">'
        f'<g aria-hidden="true">{head}</g>{"".join(rows)}</svg>'
    )


def _row(page: str, claim: Claim, test: DecidingTest, judged: JudgedClaim, y: float, size: _Size) -> str:
    """One test: its label, what it found, and the sign of its answer."""
    found = judged.deciding.get(test.name)
    ran = found is not None and found.estimate is not None
    word = (found.answer or "exploratory") if found and ran else "not tested"
    name = f"{claim.id} {test.name}" if len(claim.deciding) > 1 else claim.id
    label = name if size is _ROOMY else claim.id * (test is claim.deciding[0])
    label = label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…"
    told = f"{name}: {word}: {test.metric}: {found.words if found else 'not run yet'}"
    sign = f'<text x="100%" dx="{size.signs / 2:g}" y="{y + 4:g}" text-anchor="middle">{_SIGNS[word]}</text>'
    return (
        f'<a href="{escape(page)}#{anchor(claim.id)}" class="{word.replace(" ", "-")} of-{test.scale}">'
        f"<title>{escape(told + f', {test.scale} scale' * ran)}</title>"
        f'<rect x="{-size.labels}" y="{y - size.step / 2:g}" width="100%" height="{size.step}" '
        f'style="width:calc(100% + {size.labels + size.signs}px)"/>'
        f'<text x="{-size.labels}" y="{y + 4:g}">{escape(label)}</text>'
        f"{_drawn(test, found, y, _MARKS[word]) if found and ran else ''}{sign * bool(size.signs)}</a>"
    )


def _drawn(test: DecidingTest, found: JudgedTest, y: float, mark: str) -> str:
    """The interval with its mark, arrows where it is longer than the scale, and the bounds of *between*."""
    criterion, estimate = test.criterion, found.estimate or 0.0
    first, last = criterion.bounds[0], criterion.bounds[-1]
    unit = criterion.margin or (last - first) / 2 or abs(first) or abs(estimate) or 1.0

    def at(value: float) -> float:
        return criterion.sign * (value - first) / unit

    low, high = (-inf if found.low is None else found.low), (inf if found.high is None else found.high)
    ends = sorted((at(low), at(high))) if test.statistic != "worst" else [at(estimate)] * 2
    begin, end = _percent(min(ends[0], _HIGH - _INSET)), _percent(max(ends[1], _LOW + _INSET))
    shapes: list[tuple[float, str]] = (
        list(zip((0, 2), _BRACKETS, strict=True)) if criterion.side == "between" else []
    )
    shapes += [(_LOW, _ARROWS[0])] * (ends[0] < _LOW) + [(_HIGH, _ARROWS[1])] * (ends[1] > _HIGH)
    shapes += [(min(max(at(estimate), _LOW + _INSET), _HIGH - _INSET), mark)]
    line = f'<line x1="{begin}" x2="{end}" y1="{y:g}" y2="{y:g}"/>'
    return line + "".join(f'<svg x="{_percent(x)}" y="{y:g}">{shape}</svg>' for x, shape in shapes)


def _percent(at: float) -> str:
    """A place on the scale, as part of the width."""
    return f"{100 * (min(max(at, _LOW), _HIGH) - _LOW) / (_HIGH - _LOW):.1f}%"
