"""Parameters of a run: declared by a chapter, checked before a kernel starts, filled in by the profile, shown.

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
import html
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NoReturn

from repro.base import nearest
from repro.book import claims
from repro.book.errors import ParameterError
from repro.book.layout import PROFILES, Book
from repro.book.notebooks import read_notebook, source_of

__all__ = [
    "Parameter",
    "Value",
    "declared",
    "declared_by_page",
    "fill",
    "from_texts",
    "read_cell",
    "resolve",
    "validate",
]

Value = int | float | str | bool | None

_TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_ACCEPTED: dict[str, type] = {"int": Integral, "float": Real, "str": str, "bool": bool}
_CALLED = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}
_NUMBER = r"[+-]?(?:inf|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_RANGE = re.compile(rf"([\[(])\s*({_NUMBER})\s*,\s*({_NUMBER})\s*([\])])\s*")
_CHOICES = re.compile(r"\{([^{}]*)\}\s*")


@dataclass(frozen=True)
class _Range:
    """An interval of allowed values, with its brackets: a round one excludes its end."""

    low: float
    high: float
    brackets: str

    def __contains__(self, value: float) -> bool:
        ends = [
            end for end, bracket in zip((self.low, self.high), self.brackets, strict=True) if bracket in "[]"
        ]
        return self.low < value < self.high or value in ends

    def __str__(self) -> str:
        return f"{self.brackets[0]}{self.low:.15g}, {self.high:.15g}{self.brackets[1]}"


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: an int, float, str or bool; a default of None means "as the profile says"."""

    name: str
    type: str
    default: Value
    help: str = ""
    range: _Range | None = None
    choices: tuple[Value, ...] | None = None

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
        if value is None and self.default is None:
            return None
        if value is None:
            self._refuse(f"None (it has a default of its own: {_written(self.default)})")
        typed = self._typed(value)
        if self.choices is not None and typed not in self.choices:
            hint = nearest(str(typed), [str(choice) for choice in self.choices])
            raise ParameterError(f"{self.name} must be one of {self.allowed}, got {typed!r}; {hint}")
        if self.range is not None and isinstance(typed, int | float) and typed not in self.range:
            raise ParameterError(f"{self.name} must lie in {self.range}, got {_short(typed)}")
        return typed

    def _refuse(self, got: str) -> NoReturn:
        raise ParameterError(f"{self.name} takes {_CALLED[self.type]}, got {got}")

    def _typed(self, value: object) -> int | float | str | bool:
        a_bool_for_another = isinstance(value, bool) and self.type != "bool"
        if a_bool_for_another or not isinstance(value, _ACCEPTED[self.type]):
            self._refuse(f"{_short(value)} ({type(value).__name__})")
        try:
            typed = _TYPES[self.type](value)
            str(typed).encode()
        except (
            ValueError,
            OverflowError,
        ):  # a number without end, or bytes of a command line that are no text
            self._refuse(_short(value))
        if isinstance(typed, float):
            if math.isnan(typed) or (math.isinf(typed) and self.range is None):
                raise ParameterError(f"{self.name} takes a finite number, got {typed}")
            return typed + 0.0  # -0.0 is 0.0
        return typed

    def parse(self, text: str) -> Value:
        """The value that a person typed, in the parameter's type.

        Nothing is guessed: ``1e3`` is not a whole number, ``yes`` is not a bool. ``none`` stands for None
        where the default is None. Raises ``ParameterError``.
        """
        word = text.strip()
        if self.default is None and word in ("none", "None"):
            return None
        if self.type == "str":
            return self.check(text)
        try:
            if self.type == "bool":
                return self.check({"true": True, "false": False}[word.lower()])
            return self.check(int(word) if self.type == "int" else float(word))
        except ParameterError:
            raise
        except (KeyError, ValueError):  # Python itself refuses to read an int of very many digits
            self._refuse(_short(text))


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
    """The parameters that a cell declares, in order, as papermill reads them.

    Each line must be blank, a comment, or ``name: type = value  # help``; anything else is a ``ParameterError`` that
    names the line. So is a line that papermill would skip, as one with two equals signs, or read otherwise.
    """
    found: dict[str, Parameter] = {}
    for number, line in enumerate(source.splitlines(), start=1):
        if not line.strip() or line.strip().startswith("#"):
            continue
        parameter = _read_line(line, f"line {number} of the parameters cell, {_short(line.strip())},")
        if parameter.name in found:
            raise ParameterError(
                f"line {number} of the parameters cell declares {parameter.name!r} a second time"
            )
        found[parameter.name] = parameter
    return list(found.values())


def _read_line(line: str, where: str) -> Parameter:
    from papermill.translators import PythonTranslator

    try:
        ast.parse(line)
        # papermill skips a line with a second '=', with a warning of its own
        (read,) = PythonTranslator.inspect({"source": line}) if line.count("=") == 1 else []
        default = ast.literal_eval(read.default)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ParameterError(
            f"{where} is not `name: type = value  # help` with a plain value and no other '='"
        ) from None
    kind = read.inferred_type_name
    if kind not in _TYPES:
        raise ParameterError(
            f"{where} is not `name: type = value  # help` with a type of {', '.join(_TYPES)}"
        )
    limits, choices, text = _read_help(read.help, kind, where)
    parameter = Parameter(read.name, kind, default, text, limits, choices)
    try:
        return replace(parameter, default=parameter.check(default))
    except ParameterError as error:
        raise ParameterError(f"{where} has a default that it does not allow: {error}") from None


def _read_help(comment: str, kind: str, where: str) -> tuple[_Range | None, tuple[Value, ...] | None, str]:
    """Split a help comment into range, choices and the words that remain."""
    if match := _CHOICES.match(comment):
        plain = Parameter("a choice", kind, _TYPES[kind]())
        try:
            choices = tuple(plain.parse(choice.strip()) for choice in match[1].split(","))
        except ParameterError as error:
            raise ParameterError(f"{where} lists choices that are not of its type: {error}") from None
        return None, choices, comment[match.end() :]
    if match := _RANGE.match(comment):
        limits = _Range(float(match[2]), float(match[3]), match[1] + match[4])
        if kind not in ("int", "float") or limits.low > limits.high:
            raise ParameterError(f"{where} gives the range {limits}: it must not be empty, nor of a {kind}")
        return limits, None, comment[match.end() :]
    if comment.startswith(("[", "{")):
        raise ParameterError(
            f"{where} begins its help like a range [low, high] or choices {{a, b}}, but is neither"
        )
    return None, None, comment


def declared_by_page(notebook: Mapping[str, Any], name: str) -> list[Parameter]:
    """The parameters of a notebook, in order; none without a cell tagged ``parameters``. ``name`` is the file's."""
    cells = [cell for cell in notebook["cells"] if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(cells) > 1:
        raise ParameterError(f"{name} may have one cell tagged 'parameters', it has {len(cells)}")
    try:
        return [parameter for cell in cells for parameter in read_cell(source_of(cell))]
    except ParameterError as error:
        raise ParameterError(f"{name}: {error}") from None


def declared(notebook: Path) -> list[Parameter]:
    """The parameters that a chapter's file declares, in order; ``profile`` must be the first."""
    found = declared_by_page(read_notebook(notebook), notebook.name)
    if not found or found[0].name != "profile" or found[0].type != "str" or found[0].default not in PROFILES:
        raise ParameterError(
            f"{notebook.name}: the first parameter, in a cell tagged 'parameters', must be `profile: str`, "
            f"one of {', '.join(PROFILES)}"
        )
    return found


# --- values -------------------------------------------------------------------------------------------------------


def _find(parameters: Sequence[Parameter], name: str) -> Parameter:
    known = {parameter.name: parameter for parameter in parameters}
    if name not in known:
        raise ParameterError(f"there is no parameter {name!r}; {nearest(name, known)}")
    return known[name]


def validate(parameters: Sequence[Parameter], given: Mapping[str, object]) -> dict[str, Value]:
    """The given values, typed and checked; raises ``ParameterError`` for an unknown name or a wrong value."""
    return {name: _find(parameters, name).check(value) for name, value in given.items()}


def fill(
    parameters: Sequence[Parameter],
    given: Mapping[str, object],
    profiles: Mapping[Any, Mapping[str, object]],
    where: str,
) -> dict[str, Value]:
    """Every parameter's value: the given one, else the default, else what the profile says.

    ``where`` names the file that holds the profiles, for the messages.
    """
    checked = validate(parameters, given)
    values = {p.name: checked.get(p.name, p.default) for p in parameters}
    profile = str(values["profile"])
    if profile not in profiles:
        raise ParameterError(f"{where} has no profile {profile!r}; {nearest(profile, profiles)}")
    return {p.name: _from_profile(p, values[p.name], profile, profiles[profile], where) for p in parameters}


def _from_profile(
    parameter: Parameter, value: Value, profile: str, sizes: Mapping[str, object], where: str
) -> Value:
    if value is not None:
        return value
    if sizes.get(parameter.name) is None:
        raise ParameterError(f"{where}: profile {profile!r} gives no value for {parameter.name!r}")
    try:
        return parameter.check(sizes[parameter.name])
    except ParameterError as error:
        raise ParameterError(f"{where}: profile {profile!r}: {error}") from None


def from_texts(
    parameters: Sequence[Parameter],
    pairs: Sequence[str],
    read: Callable[[Parameter, str], Any] = Parameter.parse,
) -> dict[str, Any]:
    """Typed values from ``name=value`` as typed on a command line; raises ``ParameterError``.

    ``read`` makes a value of its parameter and the text.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals:
            raise ParameterError(f"a parameter is given as name=value, got {_short(pair)}")
        if name in values:
            raise ParameterError(f"{name} is given twice, the second time as {_short(text)}")
        values[name] = read(_find(parameters, name), text)
    return values


class _Settings:
    """The resolved parameters of a run, as attributes: ``settings.n_epochs``. They cannot be changed.

    Shown in a notebook, it is a table of name, value and help.
    """

    def __init__(self, chapter: str, values: Mapping[str, Value], helps: Mapping[str, str]) -> None:
        vars(self).update(values, _chapter=chapter, _values=dict(values), _helps=dict(helps))

    _chapter: str
    _values: dict[str, Value]
    _helps: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python itself asks for, also before there are values
            raise AttributeError(name)
        raise AttributeError(f"{self._chapter} has no parameter {name!r}; {nearest(name, self._values)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"settings are fixed once resolved; change {name} in the parameters cell and run again"
        )

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left"><code>{html.escape(name)}</code></th>'
            f"<td>{html.escape(repr(value))}</td>"
            f'<td style="text-align:left">{html.escape(self._helps.get(name, ""))}</td></tr>'
            for name, value in self._values.items()
        )
        return (
            '<table><thead><tr><th scope="col">parameter</th><th scope="col">value</th>'
            f'<th scope="col">what it is</th></tr></thead><tbody>{rows}</tbody></table>'
        )


def resolve(chapter: str, namespace: Mapping[str, object]) -> _Settings:
    """The parameters of a running notebook: pass ``globals()`` in the cell after the parameters.

    Takes each name that the chapter declares from ``namespace``, fills what is None from the profile, and
    checks all of it; raises ``ParameterError``. Works the same under ``repro run``, papermill, Binder and by
    hand.
    """
    book = Book.find()
    parameters = declared(book.notebook(chapter))
    missing = [p.name for p in parameters if p.name not in namespace]
    if missing:
        raise ParameterError(f"{', '.join(missing)} not defined: run the parameters cell first")
    path = book.claims_file(chapter)
    given = {p.name: namespace[p.name] for p in parameters}
    values = fill(parameters, given, claims.load(path).profiles, path.name)
    return _Settings(chapter, values, {p.name: p.help for p in parameters})
