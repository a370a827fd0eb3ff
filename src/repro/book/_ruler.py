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
from io import BytesIO
from itertools import accumulate
from math import inf
from typing import Any

from markupsafe import Markup

from repro.book._markup import anchor, rendered
from repro.book.answers import WORDS, JudgedClaim, JudgedTest
from repro.book.claims import Claim, DecidingTest

_LOW, _HIGH = -2.0, 3.0  # the scale: threshold and margin stand in its middle
_INSET = 0.15  # how far from the ends of the scale a mark stays that belongs beyond them
_HEAD = 44  # pixels above the first test
_CONTROLS = 18  # and above the first control
_LETTERS = 19  # of a label
_STYLES = {
    "yes": ("#0b6e4f", "o"),
    "no": ("#a8201a", "D"),
    "open": ("#4a5568", "s"),
    "exploratory": ("#b0b8c4", "."),
}
_Answered = tuple[Claim, JudgedClaim]


@dataclass(frozen=True)
class _Size:
    """Pixels of a test, of what parts two claims, and of the room for labels and signs at the sides."""

    step: int
    gap: int
    labels: int
    signs: int


_ROOMY, _DENSE = _Size(step=14, gap=0, labels=122, signs=20), _Size(step=5, gap=6, labels=34, signs=0)


def ruler(chapters: Iterable[tuple[str, str, Sequence[_Answered]]], dense: bool = False) -> Markup:
    """The deciding tests of one or several chapters, as HTML on one line.

    A chapter is its title (HTML, may be empty), the address of its page (empty on the page itself), and its claims
    with their answers; controls stand below the claims. ``dense`` has a label a claim and not one a test.
    """
    size = _DENSE if dense else _ROOMY
    pictures = [
        (Markup(title), _picture(page, part, size))
        for title, page, claims in chapters
        for part in ([claims] if dense else _halves(claims))
    ]
    return rendered("ruler.html", pictures=pictures, size=size, dense=dense, percent=_percent)


def picture(title: str, chapters: Iterable[tuple[str, str, Sequence[_Answered]]]) -> bytes:
    """The ruler of all chapters, a column each, as PNG of 1200 by 630 pixels."""
    from matplotlib.figure import Figure

    parts, file = [(name, _picture("", claims, _DENSE)["rows"]) for name, _, claims in chapters], BytesIO()
    figure = Figure(figsize=(12, 6.3), dpi=100, layout="constrained")
    figure.suptitle(title, size=26, weight="bold")
    for axes, (name, rows) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
        for row in (row for row in rows if row["line"]):
            place, word = row["marks"][-1]
            color, marker = _STYLES[word]
            axes.plot(row["line"], [row["y"]] * 2, color=color)
            axes.plot(place, row["y"], marker, color=color, markersize=4)
        axes.set_title(name, size=10)
        axes.set(xlim=(_LOW, _HIGH), xticks=(0, 1), yticks=[])
        axes.grid()
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
    figure.savefig(file, metadata={"Software": None})
    return file.getvalue()


def _halves(claims: Sequence[_Answered]) -> list[Sequence[_Answered]]:
    """Claims, and then controls, in two columns of about as many tests."""
    ordered = sorted(claims, key=lambda each: each[0].kind == "control")
    ends = list(accumulate(len(claim.deciding) for claim, _ in ordered))
    cut = bisect_left(ends, ends[-1] / 2) + 1
    return list(filter(None, (ordered[:cut], ordered[cut:])))


def _picture(page: str, claims: Sequence[_Answered], size: _Size) -> dict[str, Any]:
    """The rows of a picture, a test each, from top to bottom, where its controls begin, and its height."""
    rows, y, controls = [], _HEAD, None
    for claim, judged in sorted(claims, key=lambda each: each[0].kind == "control"):
        if claim.kind == "control" and controls is None:
            controls = y = y + _CONTROLS
        for test in claim.deciding:
            rows.append({"top": y, "y": y + size.step / 2, **_row(page, claim, test, judged, size)})
            y += size.step
        y += size.gap
    return {"rows": rows, "controls": controls, "height": y}


def _row(page: str, claim: Claim, test: DecidingTest, judged: JudgedClaim, size: _Size) -> dict[str, Any]:
    """One test: its label, what it found, and the sign of its answer."""
    found = judged.deciding.get(test.name)
    ran = found is not None and found.estimate is not None
    word = (found.answer or "exploratory") if found and ran else "not tested"
    name = f"{claim.id} {test.name}" if len(claim.deciding) > 1 else claim.id
    label = name if size is _ROOMY else claim.id * (test is claim.deciding[0])
    told = f"{name}: {word}: {test.metric}: {found.words if found else 'not run yet'}"
    return {
        "href": f"{page}#{anchor(claim.id)}",
        "kind": f"{word.replace(' ', '-')} of-{test.scale}",
        "told": told + f", {test.scale} scale" * ran,
        "label": label if len(label) <= _LETTERS else f"{label[: _LETTERS - 1]}…",
        "sign": WORDS[word],
        **(_drawn(test, found, word) if found and ran else {"line": None, "marks": []}),
    }


def _drawn(test: DecidingTest, found: JudgedTest, word: str) -> dict[str, Any]:
    """Where the interval begins and ends, and the places of its marks.

    They are that of the answer, arrows where the interval is longer than the scale, and the bounds of *between*.
    """
    criterion, estimate = test.criterion, found.estimate or 0.0
    first, last = criterion.bounds[0], criterion.bounds[-1]
    unit = criterion.margin or (last - first) / 2 or abs(first) or abs(estimate) or 1.0

    def at(value: float) -> float:
        return criterion.sign * (value - first) / unit

    low, high = (-inf if found.low is None else found.low), (inf if found.high is None else found.high)
    ends = sorted((at(low), at(high))) if test.statistic != "worst" else [at(estimate)] * 2
    marks = [(0.0, "begins"), (2.0, "ends")] if criterion.side == "between" else []
    marks += [(_LOW, "goes on left")] * (ends[0] < _LOW) + [(_HIGH, "goes on right")] * (ends[1] > _HIGH)
    marks += [(min(max(at(estimate), _LOW + _INSET), _HIGH - _INSET), word)]
    return {"line": (min(ends[0], _HIGH - _INSET), max(ends[1], _LOW + _INSET)), "marks": marks}


def _percent(at: float) -> str:
    """A place on the scale, as part of the width."""
    return f"{100 * (min(max(at, _LOW), _HIGH) - _LOW) / (_HIGH - _LOW):.1f}%"
