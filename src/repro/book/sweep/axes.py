"""One axis of a grid as a person types it, and the typed values that it stands for."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from repro.book.errors import ParameterError
from repro.book.parameters import Parameter, Value

__all__ = ["MAX_POINTS", "axis_values", "quoted", "split"]

MAX_POINTS = 100_000
"""A grid with more points than this is taken for a slip of the keyboard."""

_FUNCTION = re.compile(r"\s*(linspace|logspace|geomspace)\s*\(([^()]*)\)\s*")
_WHOLE = re.compile(r"(?=.{1,300}$)[+-]?[0-9]+(_[0-9]+)*")
_DIGITS = 15
"""Significant digits kept by the three functions: 0.3 as typed, not 0.30000000000000004."""


def axis_values(parameter: Parameter, text: str) -> tuple[Value, ...]:
    """The values of one axis, in the parameter's type, in the order given.

    Accepts, for every type, a value or a list ``a,b,c`` (a value that holds a comma stands in double quotes;
    spaces around a value do not count); for numbers also whole-number ranges, ``0..9`` with both ends and
    ``0..100..10`` with a step, alone or in a list; and, alone, ``linspace(0, 1, 5)``,
    ``geomspace(1e-4, 0.1, 4)`` and the same as exponents of ten, ``logspace(-4, -1, 4)``.

    Raises:
        ParameterError: an empty axis, a broken form, or a value that the parameter does not allow.
    """
    if match := _FUNCTION.fullmatch(text):
        return _spaced(parameter, match[1], match[2], text)
    values: list[Value] = []
    for word in split(text, f"{parameter.name}={quoted(text)}"):
        if not word:
            what = "has no value" if not text.strip() else "has an empty value"
            raise ParameterError(f"the axis {parameter.name}={quoted(text)} {what}")
        if parameter.type in ("int", "float") and ".." in word:
            values += [parameter.check(number) for number in _range(parameter.name, word)]
        else:
            values.append(parameter.parse(word))
    return tuple(values)


def split(text: str, where: str) -> list[str]:
    """The cells of one line by the rules of CSV, without the spaces around them."""
    try:
        rows = list(csv.reader([text], strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise ParameterError(f"{where} is not a list a,b,c by the rules of CSV: {error}") from None
    return [cell.strip() for cell in rows[0]] if rows and rows[0] else [""]


def quoted(text: str) -> str:
    """Text as an error message quotes it: on one line and not too long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _range(name: str, word: str) -> range:
    parts = [part.strip() for part in word.split("..")]
    wrong = f"the range {quoted(word)} of {name}"
    if not 2 <= len(parts) <= 3 or not all(_WHOLE.fullmatch(part) for part in parts):
        raise ParameterError(
            f"{wrong} is not FIRST..LAST or FIRST..LAST..STEP in whole numbers; "
            "linspace(0, 1, 5) makes fractions"
        )
    first, last, step = (*map(int, parts), 1)[:3]
    if step < 1:
        raise ParameterError(f"{wrong} has the step {step}; a step is 1 or more")
    if last < first:
        raise ParameterError(f"{wrong} runs backwards; the smaller number comes first")
    _limited((last - first) // step + 1, wrong)
    return range(first, last + 1, step)


def _limited(count: int, what: str) -> None:
    if count > MAX_POINTS:
        raise ParameterError(f"{what} has more than the {MAX_POINTS:,} points that a grid may have")


_SPACINGS: dict[str, Callable[[float, float, int], np.ndarray]] = {
    "linspace": np.linspace,
    "logspace": np.logspace,
    "geomspace": np.geomspace,
}


def _spaced(parameter: Parameter, function: str, arguments: str, text: str) -> tuple[Value, ...]:
    form = f"the axis {parameter.name}={quoted(text)}"
    if parameter.type not in ("int", "float"):
        raise ParameterError(f"{form} makes numbers, but {parameter.name} is of type {parameter.type}")
    first, last, count = _arguments(arguments.split(","), f"{form} is not {function}(FIRST, LAST, COUNT)")
    if count < 1:
        raise ParameterError(f"{form} has no value: its count is {count}, it must be 1 or more")
    _limited(count, form)
    if function == "geomspace" and not (first > 0 and last > 0):
        raise ParameterError(f"{form} takes two positive numbers, got {first:.15g} and {last:.15g}")
    with np.errstate(all="ignore"):
        numbers = [float(f"{number:.{_DIGITS}g}") for number in _SPACINGS[function](first, last, count)]
    if not all(map(math.isfinite, numbers)):
        raise ParameterError(f"{form} goes beyond the largest number that a float holds")
    if parameter.type == "float":
        return tuple(parameter.check(number) for number in numbers)
    for number in numbers:
        if not number.is_integer():
            raise ParameterError(f"{form} makes {number!r}, but {parameter.name} takes whole numbers")
    return tuple(parameter.check(int(number)) for number in numbers)


def _arguments(words: Sequence[str], wrong: str) -> tuple[float, float, int]:
    try:
        first, last = (float(word) for word in words[:2])
    except ValueError:
        raise ParameterError(wrong) from None
    finite = math.isfinite(first) and math.isfinite(last)
    if len(words) != 3 or not finite or not _WHOLE.fullmatch(words[2].strip()):
        raise ParameterError(wrong)
    return first, last, int(words[2])
