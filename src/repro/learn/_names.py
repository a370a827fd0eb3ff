"""What to say of a name that is none of the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["unknown"]


def unknown(what: str, name: object, known: Iterable[object]) -> str:
    """Return the sentence of an error: the name, the nearest known one if any is near, and all known ones.

    Case does not count in what is near, and a dash counts as an underscore.

    Example:
        >>> unknown("loss", "Logistics", ["logistic", "squared_error"])
        "unknown loss 'Logistics'; did you mean 'logistic'? Known: logistic, squared_error"
    """
    names = [str(each) for each in known]
    loosely = {_loose(each): each for each in names}
    near = difflib.get_close_matches(_loose(name), loosely, n=1, cutoff=0.5)
    hint = f"did you mean {loosely[near[0]]!r}? Known" if near else "known"
    return f"unknown {what} {name!r}; {hint}: {', '.join(each or repr(each) for each in names) or 'none'}"


def _loose(name: object) -> str:
    return str(name).lower().replace("-", "_")
