"""Sentences with numbers from the run, and the rule that finds numbers typed by hand.

The rule, for the text of a Markdown cell outside mathematics, code, roles, link addresses and HTML tags. A
number needs a source when it is

* a decimal number (0.93, 1e-6), or
* a percentage of any size (5 %, 12 percent, 3 percentage points), or
* a whole number above twelve (60,000).

It needs none when it is

* part of a name that starts with a letter: LeNet-300-100, CIFAR-10, E14, mnist5k;
* a year from 1900 to 2099, a date such as 2026-11-21, or a version of three or more parts;
* an arXiv identifier such as 2010.12909;
* the level of an interval: 95 % interval, 95 % confidence;
* a numbered place: Section 4.1, Table 12, Figure 14, Theorem 3.2, page 20, Python 3.11.

A size that the text must name stands in code: `60000`. Numbers of the paper stand in the claims file, under
``quoted``; everything else comes from the run, by ``say``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from string import Formatter
from typing import Any, NamedTuple

from repro.book import _markup
from repro.book.errors import BadInput

_LARGEST_FREE = 12
_NOT_FINITE = {"nan", "inf", "-inf"}  # as Python's, NumPy's and PyTorch's numbers are written

_PLACES = (
    r"sections?|sec\.|§|chapters?|figures?|figs?\.|tables?|tab\.|equations?|eqs?\.|theorems?|lemmas?|corollar(?:y|ies)|"
    r"propositions?|appendix|appendices|algorithms?|definitions?|assumptions?|remarks?|claims?|exercises?|"
    r"pages?|pp?\.|version|python|arxiv:?"
)
_AFTER_PLACE = re.compile(
    rf"(?:^|[\s(\[])(?:{_PLACES})\s*\(?(?:[\w.]+\s*(?:,|and|to|–|-)\s*)?$", re.IGNORECASE
)
_WORD = re.compile(r"[^\s()\[\]<>=≤≥≈~|/+:;×±…–—\"“”‘’«»*{}]+")
_NUMBER = re.compile(r"\d+(?:[,\u202f\u2009]\d{3})*(?:\.\d+)?(?:[eE][-+−]?\d+)?")
_FREE_WORD = re.compile(
    r"(?:19|20)\d\d(?:s)?$"  # a year
    r"|\d{4}-\d\d(?:-\d\d)?$"  # a date
    r"|v?\d+(?:\.\d+){2,}$"  # a version
    r"|\d{4}\.\d{4,5}(?:v\d+)?$"  # an arXiv identifier
)
_LEVEL = re.compile(r"95\s*(?:%|per\s?cent)[\s-]*(?:\w+\s+)?(?:intervals?|confidence|bands?)\b")
_PERCENT = re.compile(r"\s*(?:%|per\s?cent\b|percentage\b)")


class _Typed(NamedTuple):
    """A number typed into the text, with its unit, and the words around it."""

    text: str
    value: float
    context: str


def _typed_in(text: str) -> Iterator[_Typed]:
    """The numbers of one block of plain text that need a source."""
    for word in _WORD.finditer(text):
        token = word.group().strip(".,!?'_")
        if not token or token[0].isalpha() or _FREE_WORD.match(token):
            continue
        if _AFTER_PLACE.search(text[max(0, word.start() - 40) : word.start()]):
            continue
        for match in _NUMBER.finditer(text, word.start(), word.end()):
            number, end = match.group(), match.end()
            percent = _PERCENT.match(text, end)
            value = float(re.sub(r"[,\u202f\u2009]", "", number).replace("−", "-"))
            small = number.isdecimal() and not percent and value <= _LARGEST_FREE
            if small or _LEVEL.match(text, match.start()):
                continue
            around = " ".join(text[max(0, word.start() - 30) : end + 30].split())
            yield _Typed(number + (percent.group().rstrip() if percent else ""), value, around)


def numbers_typed(markdown: str, allowed: Collection[float] = ()) -> list[_Typed]:
    """The numbers in a Markdown text that need a source; ``allowed`` are those that may be quoted.

    See the module's text for the rule. A number is allowed by its size, whatever its sign or unit.
    """
    sizes = {abs(value) for value in allowed}
    found = [typed for block in _markup.prose(markdown) for typed in _typed_in(block)]
    return [typed for typed in found if typed.value not in sizes]


def _sentence(template: str, **values: Any) -> str:
    """The text that ``say`` displays: the template with the run's values filled in.

    Raises ``BadInput`` for a number typed into the template, a name without a value, a value without a place,
    and a value that is not finite.
    """
    try:
        pieces = list(Formatter().parse(template))
        filled = template.format(**values)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        told = f"{type(error).__name__}: {error}; braces of mathematics are written twice"
        raise BadInput(f"the sentence could not be filled: {told}") from None
    if typed := numbers_typed("".join(text + "x" * (name is not None) for text, name, _, _ in pieces)):
        told = f"{typed[0].text} in “{typed[0].context}”"
        raise BadInput(f"a number typed by hand: {told}; give it as a value of the run, {{name:.2f}}")
    names = {re.split(r"[.\[]", name)[0] for _, name, _, _ in pieces if name is not None}
    for name, value in values.items():
        if name not in names:
            raise BadInput(f"the value {name!r} has no place in the sentence")
        if f"{value}" in _NOT_FINITE:
            raise BadInput(f"{name} is {value}: a sentence takes finite numbers")
    return filled


def say(template: str, **values: Any) -> None:
    """Display a sentence of Markdown whose every number comes from the run.

    ``say("Over {n} seeds the loss fell to {loss:.2f}.", n=len(losses), loss=mean)``. Mathematics may hold
    numbers; its braces are written twice. Errors as for ``_sentence``.
    """
    from IPython.display import Markdown, display

    display(Markdown(_sentence(template, **values)))
