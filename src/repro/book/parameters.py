"""Parameters of a run: checked before a kernel starts, filled in by the profile, shown in the notebook.

Not to be confused with ``repro.book.declarations``, which reads what a chapter declares.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from repro.book import claims
from repro.book.declarations import Parameter, Value, declared
from repro.book.errors import ParameterError, nearest
from repro.book.layout import Book

__all__ = ["Parameter", "Settings", "declared", "fill", "from_texts", "resolve", "validate"]


def validate(parameters: Sequence[Parameter], given: Mapping[str, object]) -> dict[str, Value]:
    """The given values, typed and checked; raises ``ParameterError`` for an unknown name or a wrong value."""
    known = {parameter.name: parameter for parameter in parameters}
    for name in given:
        if name not in known:
            raise ParameterError(f"there is no parameter {name!r}; {nearest(name, known)}")
    return {name: known[name].check(value) for name, value in given.items()}


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


def from_texts(parameters: Sequence[Parameter], pairs: Sequence[str]) -> dict[str, Value]:
    """Typed values from ``name=value`` as typed on a command line; raises ``ParameterError``."""
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Value] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals:
            raise ParameterError(f"a parameter is given as name=value, got {pair!r}")
        if name not in known:
            raise ParameterError(f"there is no parameter {name!r}; {nearest(name, known)}")
        if name in values:
            raise ParameterError(f"{name} is given twice")
        values[name] = known[name].parse(text)
    return values


class Settings:
    """The resolved parameters of a run, as attributes: ``settings.n_epochs``. They cannot be changed.

    Shown in a notebook, it is a table of name, value and help.
    """

    def __init__(
        self, chapter: str, values: Mapping[str, Value], helps: Mapping[str, str] | None = None
    ) -> None:
        object.__setattr__(self, "_chapter", chapter)
        object.__setattr__(self, "_values", MappingProxyType(dict(values)))
        object.__setattr__(self, "_helps", dict(helps or {}))

    _chapter: str
    _values: Mapping[str, Value]
    _helps: dict[str, str]

    def as_dict(self) -> dict[str, Value]:
        """A copy of all values by name."""
        return dict(self._values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            known = () if name.startswith("_") else self._values
            raise AttributeError(f"{self._chapter} has no parameter {name!r}; {nearest(name, known)}")
        return self._values[name]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"settings are fixed once resolved; change {name} in the parameters cell and run again"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return self._chapter == other._chapter and dict(self._values) == dict(other._values)

    def __hash__(self) -> int:
        return hash((self._chapter, tuple(self._values.items())))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

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


def resolve(chapter: str, namespace: Mapping[str, object], book: Book | None = None) -> Settings:
    """The parameters of a running notebook: pass ``globals()`` in the cell after the parameters.

    Takes each name that the chapter declares from ``namespace``, fills what is None from the profile, and
    checks all of it; raises ``ParameterError``. Works the same under ``repro run``, papermill, Binder and by
    hand.
    """
    book = book or Book.find()
    parameters = declared(book.notebook(chapter))
    missing = [p.name for p in parameters if p.name not in namespace]
    if missing:
        raise ParameterError(f"{', '.join(missing)} not defined: run the parameters cell first")
    path = book.claims_file(chapter)
    given = {p.name: namespace[p.name] for p in parameters}
    values = fill(parameters, given, claims.load(path).profiles, path.name)
    return Settings(chapter, values, {p.name: p.help for p in parameters})
