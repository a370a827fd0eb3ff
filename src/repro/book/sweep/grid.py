"""Axes as a person types them, and files of points, to typed points: all is checked before anything runs."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from repro.book._files import readable, shown
from repro.book.errors import BadInput, known
from repro.book.parameters import Parameter, fill, from_texts

_MAX_POINTS = 100_000
"""A grid with more points than this is taken for a slip of the keyboard."""

_SPACED = re.compile(r"\s*(linspace|logspace|geomspace)\s*\(([^()]*)\)\s*")
_WHOLE = r"\s*([+-]?[0-9]{1,18}|[0-9]{1,3}(?:_[0-9]{3}){1,4})\s*"
_RANGE = re.compile(rf"{_WHOLE}\.\.{_WHOLE}(?:\.\.{_WHOLE})?")


def point_id(values: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the values as JSON: sorted names, floats by ``repr``."""
    text = json.dumps(dict(values), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def points(
    parameters: Sequence[Parameter],
    profiles: Mapping[Any, Mapping[str, object]],
    axes: Sequence[str],
    *,
    zipped: Sequence[str] = (),
    file: Path | None = None,
    where: str,
) -> list[dict[str, Any]]:
    """The points of a grid: the rows of the file crossed with the axes, the last axis running fastest.

    Args:
        parameters: what the chapter declares.
        profiles: the chapter's profiles, as in its file of claims.
        axes: one ``name=values`` each, with values as ``_axis_values`` reads them.
        zipped: names of axes that advance together, in the place of the first of them; all of one length.
        file: a CSV table with a header, or a YAML list of mappings. Values are read as if they had been typed, in YAML
            too: ``1e-4`` is a number there. A row of YAML may leave names out; a row of CSV may not.
        where: the name of the file that holds the profiles, for the messages.

    Returns:
        For each point, in order and as often as it is given, all of the chapter's parameters. Without any axis or
        file, one point.

    Raises:
        BadInput: an unknown name, a name given twice, a broken axis or file, a value that its parameter does
            not allow, a parameter that the profile leaves without a value, or more than 100,000 points.
    """
    by_name = from_texts(parameters, axes, _axis_values)
    rows = [{}] if file is None else _rows(file, parameters)
    if twice := [name for name in by_name if any(name in row for row in rows)]:
        raise BadInput(f"{twice[0]} is an axis and stands in the file of points as well")
    factors = [rows, *_factors(by_name, zipped)]
    _limited(math.prod(map(len, factors)), "the grid")
    combined = ({k: v for part in parts for k, v in part.items()} for parts in itertools.product(*factors))
    return [fill(parameters, asked, profiles, where) for asked in combined]


def _axis_values(parameter: Parameter, text: str) -> list[Any]:
    """The values of one axis, in the parameter's type, in the order given.

    Accepts, for every type, a value or a list ``a,b,c`` (a value that holds a comma stands in double quotes; spaces
    around a value do not count); for numbers also whole-number ranges, ``0..9`` with both ends and ``0..100..10`` with
    a step, alone or in a list; and, alone, ``linspace(0, 1, 5)``, ``geomspace(1e-4, 0.1, 4)`` and the same as
    exponents of ten, ``logspace(-4, -1, 4)``.

    Raises:
        BadInput: an empty axis, a broken form, or a value that the parameter does not allow.
    """
    form = f"the axis {parameter.name}={text[:60]!r}"
    if spaced := _SPACED.fullmatch(text):
        return [parameter.check(number) for number in _spaced(spaced[1], spaced[2], form)]
    try:
        (cells,) = csv.reader([text], strict=True, skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise BadInput(f"{form} is not a list a,b,c by the rules of CSV: {error}") from None
    values: list[Any] = []
    for word in cells or [""]:
        if not word.strip():
            raise BadInput(f"{form} has an empty value")
        if parameter.type in ("int", "float") and (ends := _RANGE.fullmatch(word)):
            values += [parameter.check(number) for number in _range(ends, form)]
        else:
            values.append(parameter.parse(word.strip()))
    return values


def _range(ends: re.Match[str], form: str) -> range:
    first, last, step = int(ends[1]), int(ends[2]), int(ends[3] or 1)
    if last < first or step < 1:
        told = "FIRST..LAST or FIRST..LAST..STEP, with FIRST <= LAST and STEP >= 1"
        raise BadInput(f"{form} goes nowhere: it is {told}")
    _limited((last - first) // step + 1, form)
    return range(first, last + 1, step)


def _spaced(function: str, arguments: str, form: str) -> list[int | float]:
    """The numbers of ``linspace(0, 1, 5)`` and its like, with 15 digits: 0.3 as typed, not 0.30000000000000004."""
    with suppress(ValueError, OverflowError), np.errstate(all="ignore"):
        first, last, count = (float(argument) for argument in arguments.split(","))
        _limited(count, form)
        numbers = getattr(np, function)(first, last, int(count))
        positive = function != "geomspace" or min(first, last) > 0
        if positive and numbers.size and np.isfinite(numbers).all() and count.is_integer():
            rounded = [float(f"{number:.15g}") for number in numbers]
            return [int(number) if number.is_integer() else number for number in rounded]
    wanted = "finite numbers (of geomspace above zero) and a whole count of 1 or more"
    raise BadInput(f"{form} is not {function}(FIRST, LAST, COUNT) with {wanted}")


def _factors(by_name: Mapping[str, list[Any]], zipped: Sequence[str]) -> list[list[dict[str, Any]]]:
    """What is crossed: each axis on its own, and the zipped axes as one."""
    named = [name.strip() for name in zipped]
    for name in named:
        known("axis", name, by_name)
    if named and len(set(named)) < max(2, len(named)):
        raise BadInput(f"axes are zipped with others, each named once, got {', '.join(named)}")
    together = [name for name in by_name if name in named]
    if len({len(by_name[name]) for name in together}) > 1:
        lengths = ", ".join(f"{name} has {len(by_name[name])}" for name in together)
        raise BadInput(f"zipped axes must have equally many values: {lengths}")
    groups = [together if name in together else [name] for name in by_name if name not in together[1:]]
    rows = [zip(*(by_name[name] for name in group), strict=True) for group in groups]
    return [[dict(zip(g, row, strict=True)) for row in each] for g, each in zip(groups, rows, strict=True)]


def _rows(path: Path, parameters: Sequence[Parameter]) -> list[dict[str, Any]]:
    """The points of a file, each value in the type of its parameter."""
    readers = {".csv": _csv_rows, ".yaml": _yaml_rows, ".yml": _yaml_rows}
    if path.suffix.lower() not in readers:
        raise BadInput(f"points are read from .csv, .yaml or .yml files, got {path.name!r}")
    with readable(path, "the points of a sweep"):
        rows = readers[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
    points: list[dict[str, Any]] = []
    try:
        for row in rows:
            points.append(from_texts(parameters, [f"{name}={text}" for name, text in row.items()]))
    except BadInput as error:
        raise BadInput(f"{shown(path)}, point {len(points) + 1}: {error}") from None
    if not points:
        raise BadInput(f"{shown(path)} has no points")
    return points


def _csv_rows(text: str) -> list[dict[str, str]]:
    table = csv.DictReader(io.StringIO(text), strict=True, skipinitialspace=True)
    rows: list[dict[Any, Any]] = list(table)
    names = [name.strip() for name in table.fieldnames or ()]
    if len(set(names)) < len(names) or any(None in row or None in row.values() for row in rows):
        raise ValueError("its header must name each column once, and every row must be as long as the header")
    return [dict(zip(names, map(str.strip, row.values()), strict=True)) for row in rows]


def _yaml_rows(text: str) -> list[dict[str, str]]:
    rows = yaml.load(text, Loader=yaml.BaseLoader) or []
    if not isinstance(rows, list) or any(
        not isinstance(row, dict) or not all(isinstance(cell, str) for pair in row.items() for cell in pair)
        for row in rows
    ):
        raise ValueError("it must be a list of points, each a mapping of plain values like {seed: 0, n: 4}")
    return rows


def _limited(count: float, what: str) -> None:
    if count > _MAX_POINTS:
        raise BadInput(f"{what} has more than the {_MAX_POINTS:,} points that a grid may have")
