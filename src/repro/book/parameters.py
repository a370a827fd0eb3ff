"""Parameters of a run: declared by a chapter, checked before a kernel starts, filled in by the profile, shown.

A chapter declares its parameters in the one cell tagged ``parameters``, one on a line::

    profile: str = "quick"  # {smoke, quick, paper} how large the experiments are
    seed: int = 0           # [0, 1000000] the first seed
    n_epochs: int = None    # [1, 10000] passes over the data

The comment may begin with a range in square brackets, both ends included, or, for a text, with the choices in
braces. A parameter whose default is ``None`` takes the value that the chosen profile gives it (the
profiles stand in the chapter's claims file). papermill reads the same cell with its own, looser parser; a
line that the two would read differently is refused.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, make_dataclass, replace
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from repro.book import claims
from repro.book._markup import rendered
from repro.book._notebooks import read_notebook, source_of
from repro.book.errors import BadInput, known
from repro.book.layout import PROFILES, Book

_Value = int | float | str | bool | None

# what a value must be, what it becomes, and what that is called
_TYPES: dict[str, tuple[type, type, str]] = {
    "int": (Integral, int, "a whole number"),
    "float": (Real, float, "a finite number"),
    "str": (str, str, "text"),
    "bool": (bool, bool, "true or false"),
}
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]\s*")
_CHOICES = re.compile(r"\{([^{}]*)\}\s*")


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: an int, float, str or bool; a default of None means "as the profile says".

    ``allowed`` is the range or the choices as the cell writes them; empty when anything of the type goes.
    """

    name: str
    type: str
    default: _Value
    help: str = ""
    allowed: str = ""

    def check(self, value: object) -> _Value:
        """The value in the parameter's own type, or a ``BadInput`` that quotes it.

        A whole number is accepted for a float (and converted), a bool never for a number. None is accepted
        only where the default is None.
        """
        if value is None and self.default is None:
            return None
        accepted, kind, called = _TYPES[self.type]
        if isinstance(value, accepted) and isinstance(value, bool) == (self.type == "bool"):
            with suppress(ValueError, OverflowError):
                typed: _Value = kind(value)
                str(typed).encode()  # bytes of a command line that are no text
                if self._allows(typed):
                    return typed + 0.0 if isinstance(typed, float) else typed  # -0.0 is 0.0
        limits = f" in {self.allowed}" if self.allowed else ""
        raise BadInput(f"{self.name} takes {called}{limits}, got {_short(value)}")

    def _allows(self, value: Any) -> bool:
        if limits := _RANGE.fullmatch(self.allowed):
            return float(limits[1]) <= value <= float(limits[2])
        if listed := _CHOICES.fullmatch(self.allowed):
            return value in map(str.strip, listed[1].split(","))
        return not isinstance(value, float) or math.isfinite(value)

    def parse(self, text: str) -> _Value:
        """The value that a person typed, in the parameter's type.

        Nothing is guessed: ``1e3`` is not a whole number, ``yes`` is not a bool. ``none`` stands for None
        where the default is None. Raises ``BadInput``.
        """
        word, value = text.strip(), text  # type: str, Any
        if self.default is None and word in ("none", "None"):
            return None
        if self.type == "bool":
            value = {"true": True, "false": False}.get(word.lower(), text)
        elif self.type != "str":
            with suppress(ValueError):  # what is no number is refused as the text that it is
                value = _TYPES[self.type][1](word)
        return self.check(value)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python is willing to print
        return "a number of very many digits"
    return text if len(text) <= 60 else text[:57] + "..."


# --- the cell -----------------------------------------------------------------------------------------------------


def _read_cell(source: str) -> list[Parameter]:
    """The parameters that a cell declares, in order, as papermill reads them.

    Each line must be blank, a comment, or ``name: type = value  # help``; anything else is a ``BadInput`` that
    names the line. So is a line that papermill would skip, as one with two equals signs, or read otherwise.
    """
    found: dict[str, Parameter] = {}
    for number, line in enumerate(source.splitlines(), start=1):
        if not line.strip() or line.strip().startswith("#"):
            continue
        try:
            parameter = _read_line(line)
            if parameter.name in found:
                raise BadInput("it is declared a second time")
        except BadInput as error:
            where = f"line {number} of the parameters cell, {_short(line.strip())}"
            raise BadInput(f"{where}: {error}") from None
        found[parameter.name] = parameter
    return list(found.values())


def _read_line(line: str) -> Parameter:
    from papermill.translators import PythonTranslator

    try:
        ast.parse(line)
        # papermill skips a line with a second '=', with a warning of its own
        (read,) = PythonTranslator.inspect({"source": line}) if line.count("=") == 1 else []
        default = ast.literal_eval(read.default)
        if read.inferred_type_name not in _TYPES:
            raise ValueError
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        told = f"a plain value, a type of {', '.join(_TYPES)}, and no other '='"
        raise BadInput(f"is not `name: type = value  # help` with {told}") from None
    limits, listed = _RANGE.match(read.help), _CHOICES.match(read.help)
    begins = limits or listed
    if begins is None and read.help.startswith(("[", "{")):
        raise BadInput("its help begins like a range [low, high] or choices {a, b}, but is neither")
    fits = ("int", "float") if limits else ("str",)
    if (begins and read.inferred_type_name not in fits) or (limits and float(limits[1]) > float(limits[2])):
        raise BadInput("the range is empty or not of numbers, or the choices are not for a text")
    allowed = begins[0].strip() if begins else ""
    text = read.help[begins.end() :] if begins else read.help
    parameter = Parameter(read.name, read.inferred_type_name, default, text, allowed)
    return replace(parameter, default=parameter.check(default))


def declared(notebook: Path, of_a_chapter: bool = True) -> list[Parameter]:
    """The parameters that a notebook's file declares, in order; those of a chapter begin with ``profile``.

    There are none without a cell tagged ``parameters``.
    """
    cells = [
        source_of(cell)
        for cell in read_notebook(notebook)["cells"]
        if "parameters" in cell.get("metadata", {}).get("tags", [])
    ]
    if len(cells) > 1:
        raise BadInput(f"{notebook.name} may have one cell tagged 'parameters', it has {len(cells)}")
    try:
        found = [parameter for cell in cells for parameter in _read_cell(cell)]
    except BadInput as error:
        raise BadInput(f"{notebook.name}: {error}") from None
    first = found[0] if found else Parameter("", "", "")
    if of_a_chapter and (first.name, first.type, first.default in PROFILES) != ("profile", "str", True):
        told = "the first parameter, in a cell tagged 'parameters', must be `profile: str`"
        raise BadInput(f"{notebook.name}: {told}, one of {', '.join(PROFILES)}")
    return found


# --- values -------------------------------------------------------------------------------------------------------


def _find(parameters: Sequence[Parameter], name: str) -> Parameter:
    declared = {parameter.name: parameter for parameter in parameters}
    return declared[known("parameter", name, declared)]


def fill(
    parameters: Sequence[Parameter],
    given: Mapping[str, object],
    profiles: Mapping[Any, Mapping[str, object]] | None = None,
    where: str = "",
) -> dict[str, _Value]:
    """Every parameter's value: the given one, else the default, else what the profile says, all of them checked.

    ``where`` names the file that holds the profiles, for the messages; a page has none.
    """
    values = {p.name: p.default for p in parameters}
    values |= {name: _find(parameters, name).check(value) for name, value in given.items()}
    if profiles is None:
        return values
    profile = known(f"profile in {where} called", str(values["profile"]), profiles)
    for parameter in parameters:
        if values[parameter.name] is None:
            size = profiles[profile].get(parameter.name)
            if size is None:
                raise BadInput(f"{where}: profile {profile!r} gives no value for {parameter.name!r}")
            try:
                values[parameter.name] = parameter.check(size)
            except BadInput as error:
                raise BadInput(f"{where}: profile {profile!r}: {error}") from None
    return values


def from_texts(
    parameters: Sequence[Parameter],
    pairs: Sequence[str],
    read: Callable[[Parameter, str], Any] = Parameter.parse,
) -> dict[str, Any]:
    """Typed values from ``name=value`` as typed on a command line; raises ``BadInput``.

    ``read`` makes a value of its parameter and the text.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals:
            raise BadInput(f"a parameter is given as name=value, got {_short(pair)}")
        if name in values:
            raise BadInput(f"{name} is given twice, the second time as {_short(text)}")
        values[name] = read(_find(parameters, name), text)
    return values


def resolve(chapter: str, namespace: Mapping[str, object]) -> Any:
    """The parameters of a running notebook: pass ``globals()`` in the cell after the parameters.

    Takes each name that the chapter declares from ``namespace``, fills what is None from the profile, and
    checks all of it; raises ``BadInput``. Works the same under ``repro run``, papermill, Binder and by hand.

    Returns the values as attributes, ``settings.n_epochs``, which cannot be changed; shown in a notebook, they are
    a table of name, value and help.
    """
    book = Book.find()
    parameters = declared(book.notebook(chapter))
    missing = [p.name for p in parameters if p.name not in namespace]
    if missing:
        raise BadInput(f"{', '.join(missing)} not defined: run the parameters cell first")
    path = book.claims_file(chapter)
    given = {p.name: namespace[p.name] for p in parameters}
    values = fill(parameters, given, claims.load(path).profiles, path.name)
    rows = [(f"<code>{p.name}</code>", escape(repr(values[p.name])), escape(p.help)) for p in parameters]
    head = ("parameter", "value", "what it is")
    table = rendered("table.html", label="Parameters", head=head, rows=rows)
    methods = {"_repr_html_": lambda _: table}
    return make_dataclass("Settings", list(values), frozen=True, namespace=methods)(**values)
