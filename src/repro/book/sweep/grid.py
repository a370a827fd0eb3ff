"""Axes and files of points to typed, validated points: everything is checked before anything starts."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from repro.book.errors import ParameterError, nearest
from repro.book.files import shown
from repro.book.parameters import Parameter, Value, fill, validate
from repro.book.sweep.axes import MAX_POINTS, axis_values, quoted
from repro.book.sweep.point_files import read_rows

__all__ = ["Point", "point_id", "points", "repeated"]

Combination = dict[str, Value]


@dataclass(frozen=True)
class Point:
    """One point of a sweep.

    Attributes:
        values: the parameters that were asked for, typed and checked.
        id: of the resolved values, see ``point_id``.
        resolved: every parameter of the chapter, the profile's values filled in.
        times: how often the axes and the file gave this point; it is run once.
    """

    values: dict[str, Value]
    id: str
    resolved: dict[str, Value]
    times: int = 1


def point_id(resolved: Mapping[str, Value]) -> str:
    """First 16 hex digits of the SHA-256 of the resolved values as JSON: sorted names, floats by ``repr``."""
    text = json.dumps(dict(resolved), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def points(
    parameters: Sequence[Parameter],
    profiles: Mapping[Any, Mapping[str, object]],
    axes: Sequence[str],
    *,
    zipped: Sequence[str] = (),
    file: Path | None = None,
    common: Mapping[str, Value] | None = None,
    where: str,
) -> list[Point]:
    """The points of a grid: the rows of the file crossed with the axes, the last axis running fastest.

    Args:
        parameters: what the chapter declares.
        profiles: the chapter's profiles, as in its file of claims.
        axes: one ``name=values`` each, with values as ``axes.axis_values`` reads them.
        zipped: names of axes that advance together, in the place of the first of them; all of one length.
        file: a CSV or YAML file of points, as ``point_files.read_rows`` reads it.
        common: values that every point shares, e.g. the profile.
        where: the name of the file that holds the profiles, for the messages.

    Returns:
        The points in order, each once; ``repeated`` says in words how many were merged. Without any axis or
        file, one point.

    Raises:
        ParameterError: an unknown name, a name given twice, a broken axis or file, a value that its parameter
            does not allow, a parameter that the profile leaves without a value, or more than 100,000 points.
    """
    shared = validate(parameters, common or {})
    by_name = _axes(parameters, axes)
    rows = [{}] if file is None else read_rows(file, parameters)
    columns = {name for row in rows for name in row}
    for name in by_name:
        if file is not None and name in columns:
            raise ParameterError(f"{name} is an axis and stands in {shown(file)} as well")
    for name in shared:
        if name in by_name or name in columns:
            raise ParameterError(f"{name} is given twice: as {shared[name]!r} for all points and by point")
    factors = [rows, *_factors(by_name, zipped)]
    count = math.prod(len(factor) for factor in factors)
    if count > MAX_POINTS:
        sizes = " x ".join(str(len(factor)) for factor in factors if len(factor) > 1)
        raise ParameterError(f"the grid has {sizes} = {count:,} points; at most {MAX_POINTS:,} are accepted")

    found: dict[str, Point] = {}
    times: Counter[str] = Counter()
    for combination in itertools.product(*factors):
        values = shared | {name: value for part in combination for name, value in part.items()}
        resolved = fill(parameters, values, profiles, where)
        point = Point(values, point_id(resolved), resolved)
        found.setdefault(point.id, point)
        times[point.id] += 1
    return [replace(point, times=times[point.id]) for point in found.values()]


def repeated(grid: Sequence[Point]) -> str | None:
    """One line about the points that were given more than once, or None if there are none."""
    extra = sum(point.times - 1 for point in grid)
    if not extra:
        return None
    return f"{extra} of {len(grid) + extra} points repeat another and are run once"


def _axes(parameters: Sequence[Parameter], axes: Sequence[str]) -> dict[str, tuple[Value, ...]]:
    known = {parameter.name: parameter for parameter in parameters}
    found: dict[str, tuple[Value, ...]] = {}
    for axis in axes:
        name, equals, text = axis.partition("=")
        name = name.strip()
        if not equals:
            raise ParameterError(f"an axis is given as name=values, got {quoted(axis)}")
        if name not in known:
            raise ParameterError(f"there is no parameter {quoted(name)}; {nearest(name, known)}")
        if name in found:
            raise ParameterError(f"the axis {name} is given twice, the second time as {quoted(axis)}")
        found[name] = axis_values(known[name], text)
    return found


def _factors(by_name: Mapping[str, tuple[Value, ...]], zipped: Sequence[str]) -> list[list[Combination]]:
    """What is crossed: each axis on its own, and the zipped axes as one."""
    together = [name.strip() for name in zipped]
    for name in together:
        if name not in by_name:
            raise ParameterError(
                f"zipped axes must be given: there is no axis {quoted(name)}; " + nearest(name, by_name)
            )
        if together.count(name) > 1:
            raise ParameterError(f"the zipped axis {name} is named twice")
    if len(together) == 1:
        raise ParameterError(f"one axis, {together[0]!r}, cannot be zipped; name two or more")
    if len({len(by_name[name]) for name in together}) > 1:
        lengths = ", ".join(f"{name} has {len(by_name[name])}" for name in together)
        raise ParameterError(f"zipped axes must have equally many values: {lengths}")
    factors: list[list[Combination]] = []
    for name, values in by_name.items():
        if name not in together:
            factors.append([{name: value} for value in values])
        elif name == next(other for other in by_name if other in together):
            rows = zip(*(by_name[other] for other in together), strict=True)
            factors.append([dict(zip(together, row, strict=True)) for row in rows])
    return factors
