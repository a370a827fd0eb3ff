"""What a chapter's ``parameters`` cell declares: name, type, default, range or choices, help.

A chapter declares its parameters in the one cell tagged ``parameters``, one on a line::

    profile: str = "quick"  # {smoke, quick, paper} how large the experiments are
    seed: int = 0           # [0, 1000000] the first seed
    n_epochs: int = None    # [1, 10000] passes over the data

The comment may begin with a range (square brackets include the end, round ones exclude it) or with the
choices in braces. A parameter whose default is ``None`` takes the value that the chosen profile gives it (the
profiles stand in the chapter's claims file). papermill reads the same cell with its own, looser parser; a
line that the two would read differently is refused.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path

from repro.book.errors import ParameterError, nearest
from repro.book.layout import PROFILES
from repro.book.notebooks import read_notebook, source_of

__all__ = ["Parameter", "Range", "Value", "declared", "read_cell"]

Value = int | float | str | bool | None

_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_CALLED = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
_NUMBER = r"[+-]?(?:inf|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_RANGE = re.compile(rf"([\[(])\s*({_NUMBER})\s*,\s*({_NUMBER})\s*([\])])\s*")
_CHOICES = re.compile(r"\{([^{}]*)\}\s*")


@dataclass(frozen=True)
class Range:
    """An interval of allowed values; an end is allowed itself unless it is open."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        return f"{'[('[self.low_open]}{self.low:.15g}, {self.high:.15g}{'])'[self.high_open]}"


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: an int, float, str or bool; a default of None means "as the profile says"."""

    name: str
    type: str
    default: Value
    help: str = ""
    range: Range | None = None
    choices: tuple[Value, ...] | None = None

    @property
    def from_profile(self) -> bool:
        return self.default is None

    @property
    def allowed(self) -> str:
        """The range or the choices as the cell writes them; empty when anything of the type goes."""
        if self.choices is not None:
            return "{" + ", ".join(_written(choice) for choice in self.choices) + "}"
        return "" if self.range is None else str(self.range)

    def check(self, value: object) -> Value:
        """The value in the parameter's own type, or a ``ParameterError`` that quotes it.

        A whole number is accepted for a float (and converted), a bool never for a number. None is accepted
        only where the default is None.
        """
        if value is None:
            if self.from_profile:
                return None
            raise ParameterError(
                f"{self.name} takes {_CALLED[self.type]}, got None (it has a default of its own: "
                f"{_written(self.default)})"
            )
        typed = self._typed(value)
        if self.choices is not None and typed not in self.choices:
            hint = nearest(str(typed), [str(choice) for choice in self.choices])
            raise ParameterError(f"{self.name} must be one of {self.allowed}, got {typed!r}; {hint}")
        if self.range is not None and isinstance(typed, int | float) and typed not in self.range:
            raise ParameterError(f"{self.name} must lie in {self.range}, got {_short(typed)}")
        return typed

    def _typed(self, value: object) -> int | float | str | bool:
        wrong = ParameterError(
            f"{self.name} takes {_CALLED[self.type]}, got {_short(value)} ({type(value).__name__})"
        )
        if self.type == "bool":
            if isinstance(value, bool):
                return value
            raise wrong
        if self.type == "str":
            if isinstance(value, str):
                try:
                    value.encode()
                except UnicodeEncodeError:  # bytes of a command line that are no text
                    raise ParameterError(f"{self.name} takes Unicode text, got {_short(value)}") from None
                return value
            raise wrong
        if isinstance(value, bool):
            raise wrong
        if self.type == "int":
            if isinstance(value, Integral):
                return int(value)
            raise wrong
        if not isinstance(value, Real):
            raise wrong
        try:
            number = float(value)
        except OverflowError:
            raise ParameterError(f"{self.name} must fit a float, got {_short(value)}") from None
        if math.isnan(number):
            raise ParameterError(f"{self.name} takes a number, got nan")
        if math.isinf(number) and self.range is None:
            raise ParameterError(f"{self.name} takes a finite number, got {number}")
        return number + 0.0  # -0.0 is 0.0

    def parse(self, text: str) -> Value:
        """The value that a person typed, in the parameter's type.

        Nothing is guessed: ``1e3`` is not a whole number, ``yes`` is not a bool. ``none`` stands for None
        where the default is None. Raises ``ParameterError``.
        """
        word = text.strip()
        wrong = ParameterError(f"{self.name} takes {_CALLED[self.type]}, got {_short(text)}")
        if self.from_profile and word in ("none", "None"):
            return None
        if self.type == "str":
            return self.check(text)
        if self.type == "bool":
            if word.lower() not in ("true", "false"):
                raise wrong
            return self.check(word.lower() == "true")
        if self.type == "int":
            # more digits than this and Python itself refuses to read the number
            if not re.fullmatch(r"[+-]?[0-9]+(_[0-9]+)*", word) or len(word) > 4000:
                raise wrong
            return self.check(int(word))
        try:
            number = float(word)
        except ValueError:
            raise wrong from None
        return self.check(number)


def _written(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python is willing to print
        return "a number of very many digits"
    return text if len(text) <= 60 else text[:57] + "..."


def read_cell(source: str) -> list[Parameter]:
    """The parameters that a cell declares, in order.

    Each line must be blank, a comment, or ``name: type = value  # help``; anything else is a
    ``ParameterError`` that names the line. So is a line that papermill would skip or read otherwise.
    """
    found: list[Parameter] = []
    for number, line in enumerate(source.splitlines(), start=1):
        if not line.strip() or line.strip().startswith("#"):
            continue
        parameter = _read_line(line, f"line {number} of the parameters cell, {_short(line.strip())},")
        if parameter.name in {p.name for p in found}:
            raise ParameterError(
                f"line {number} of the parameters cell declares {parameter.name!r} a second time"
            )
        found.append(parameter)
    _agree_with_papermill(source, found)
    return found


def _read_line(line: str, where: str) -> Parameter:
    if line != line.lstrip():
        raise ParameterError(f"{where} must start in the first column")
    if line.count("=") > 1:
        raise ParameterError(
            f"{where} holds a second '=', so papermill would skip it: reword the value or the help"
        )
    try:
        statements = ast.parse(line).body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ParameterError(f"{where} is not `name: type = value  # help`") from None
    if len(statements) != 1 or not isinstance(statements[0], ast.AnnAssign):
        raise ParameterError(f"{where} is not `name: type = value  # help`")
    statement = statements[0]
    if not isinstance(statement.target, ast.Name) or statement.value is None:
        raise ParameterError(f"{where} is not `name: type = value  # help`")
    annotation = ast.unparse(statement.annotation)
    if annotation not in _TYPES:
        raise ParameterError(f"{where} has the type {annotation!r}; parameters are {', '.join(_TYPES)}")
    try:
        default = ast.literal_eval(statement.value)
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise ParameterError(f"{where} has a default that is not a plain value") from None
    assert statement.end_col_offset is not None  # ast.parse always sets it
    comment = line.encode()[statement.end_col_offset :].decode().strip()
    if comment and not comment.startswith("#"):
        raise ParameterError(f"{where} is not `name: type = value  # help`")
    limits, choices, text = _read_help(comment.removeprefix("#").strip(), annotation, where)
    parameter = Parameter(statement.target.id, annotation, default, text, limits, choices)
    try:
        return Parameter(parameter.name, annotation, parameter.check(default), text, limits, choices)
    except ParameterError as error:
        raise ParameterError(f"{where} has a default that it does not allow: {error}") from None


def _read_help(comment: str, kind: str, where: str) -> tuple[Range | None, tuple[Value, ...] | None, str]:
    """Split a help comment into range, choices and the words that remain."""
    if match := _CHOICES.match(comment):
        plain = Parameter("a choice", kind, False if kind == "bool" else _TYPES[kind]())
        try:
            choices = tuple(plain.parse(choice.strip()) for choice in match[1].split(","))
        except ParameterError as error:
            raise ParameterError(f"{where} lists choices that are not of its type: {error}") from None
        return None, choices, comment[match.end() :]
    if match := _RANGE.match(comment):
        if kind not in ("int", "float"):
            raise ParameterError(f"{where} gives a range, which only int and float parameters can have")
        limits = Range(float(match[2]), float(match[3]), match[1] == "(", match[4] == ")")
        if limits.low > limits.high:
            raise ParameterError(f"{where} gives an empty range {limits}")
        return limits, None, comment[match.end() :]
    if comment.startswith(("[", "{")):
        raise ParameterError(
            f"{where} begins its help like a range [low, high] or choices {{a, b}}, but is neither"
        )
    return None, None, comment


def _agree_with_papermill(source: str, found: Sequence[Parameter]) -> None:
    """Refuse a cell that papermill's line-based inspection would not read in the same way."""
    from papermill.translators import PythonTranslator

    seen = {parameter.name: parameter for parameter in PythonTranslator.inspect({"source": source})}
    for parameter in found:
        theirs = seen.get(parameter.name)
        advice = "keep '#' out of the value"
        if theirs is None:
            raise ParameterError(f"papermill cannot read the line that declares {parameter.name!r}: {advice}")
        try:
            agrees = ast.literal_eval(theirs.default) == parameter.default
        except (ValueError, SyntaxError):
            agrees = False
        if not agrees or theirs.inferred_type_name != parameter.type:
            raise ParameterError(
                f"papermill reads {parameter.name!r} as {theirs.inferred_type_name} = {theirs.default}: "
                + advice
            )


def declared(notebook: Path) -> list[Parameter]:
    """The parameters that a notebook file declares, in order; ``profile`` must be the first."""
    content = read_notebook(notebook)
    tagged = [cell for cell in content["cells"] if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(tagged) != 1:
        raise ParameterError(f"{notebook.name} must have one cell tagged 'parameters', it has {len(tagged)}")
    try:
        found = read_cell(source_of(tagged[0]))
    except ParameterError as error:
        raise ParameterError(f"{notebook.name}: {error}") from None
    if not found or found[0].name != "profile" or found[0].type != "str" or found[0].default not in PROFILES:
        raise ParameterError(
            f"{notebook.name}: the first parameter must be `profile: str`, one of {', '.join(PROFILES)}"
        )
    return found
