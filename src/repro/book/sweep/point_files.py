"""Points listed in a file: a CSV table with a header, or a YAML list of mappings."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import yaml

from repro.book.errors import ParameterError, nearest
from repro.book.files import shown
from repro.book.parameters import Parameter, Value
from repro.book.sweep.axes import MAX_POINTS, quoted

__all__ = ["read_rows"]

Row = tuple[str, list[tuple[str, str]]]
"""Where a row stands, for the messages, and its names and texts."""


def read_rows(path: Path, parameters: Sequence[Parameter]) -> list[dict[str, Value]]:
    """The rows of a file, each value in the type of its parameter.

    Every value is read as if it had been typed on the command line, in YAML too: ``1e-4`` is a number there and
    ``no`` is text where text is wanted. A row of YAML may leave names out; a row of CSV may not.

    Raises:
        ParameterError: no such file, another kind of file, a broken one, one without points, an unknown name, a
            name given twice in a row, or a value that its parameter does not allow.
    """
    readers = {".csv": _csv_rows, ".yaml": _yaml_rows, ".yml": _yaml_rows}
    if path.suffix.lower() not in readers:
        raise ParameterError(f"points are read from .csv, .yaml or .yml files, got {quoted(path.name)}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ParameterError(f"{shown(path)} is not UTF-8 text") from None
    except OSError as error:
        raise ParameterError(f"could not read {shown(path)}: {error.strerror or error}") from None
    rows = readers[path.suffix.lower()](text, shown(path))
    if not rows:
        raise ParameterError(f"{shown(path)} has no points")
    if len(rows) > MAX_POINTS:
        raise ParameterError(f"{shown(path)} has {len(rows):,} points; a grid has at most {MAX_POINTS:,}")
    known = {parameter.name: parameter for parameter in parameters}
    return [_typed_row(known, where, cells) for where, cells in rows]


def _typed_row(known: dict[str, Parameter], where: str, cells: list[tuple[str, str]]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, text in cells:
        if name not in known:
            raise ParameterError(f"{where}: there is no parameter {quoted(name)}; {nearest(name, known)}")
        if name in values:
            raise ParameterError(f"{where}: {name} is given twice")
        try:
            values[name] = known[name].parse(text)
        except ParameterError as error:
            raise ParameterError(f"{where}: {error}") from None
    return values


def _csv_rows(text: str, file: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text), strict=True, skipinitialspace=True)
    rows: list[Row] = []
    header: list[str] | None = None
    try:
        for record in reader:
            cells = [cell.strip() for cell in record]
            where = f"{file}, line {reader.line_num}"
            if not cells:
                continue
            if header is None:
                header = cells
            elif len(cells) != len(header):
                raise ParameterError(f"{where}: {len(cells)} cells, but the header has {len(header)}")
            else:
                rows.append((where, list(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise ParameterError(f"{file}, line {reader.line_num}: broken CSV: {error}") from None
    return rows


def _yaml_rows(text: str, file: str) -> list[Row]:
    try:
        document = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ParameterError(f"{file}{line}: broken YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ParameterError(f"{file}: broken YAML: {str(error).splitlines()[0]}") from None
    if document is None:
        return []
    if not isinstance(document, yaml.SequenceNode):
        raise ParameterError(f"{file} must be a list of points, each a mapping like {{seed: 0, n: 4}}")
    return [_yaml_row(node, file) for node in document.value]


def _yaml_row(node: yaml.Node, file: str) -> Row:
    where = f"{file}, line {node.start_mark.line + 1}"
    if not isinstance(node, yaml.MappingNode):
        raise ParameterError(f"{where}: a point is a mapping like {{seed: 0, n: 4}}")
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ParameterError(f"{where}: the name of a parameter is plain text")
        if not isinstance(value, yaml.ScalarNode):
            raise ParameterError(f"{where}: {quoted(key.value)} must have one plain value")
    return where, [(key.value, value.value) for key, value in node.value]
