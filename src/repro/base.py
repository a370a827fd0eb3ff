"""What every room of the library uses: checks at the border, unknown names, intervals, files, finished runs."""

from __future__ import annotations

import difflib
import json
import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

# --- checks -------------------------------------------------------------------------------------------------------


def whole(name: str, value: object, least: int = 1) -> int:
    """The value as an int; raises ``ValueError`` unless it is a whole number of at least ``least``, and no bool."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def nearest(name: object, known: Iterable[object]) -> str:
    """Return the end of a sentence about an unknown name: the nearest known one if any is near, and all known ones.

    Case does not count in what is near, and a dash counts as an underscore.

    Example:
        >>> nearest("Logistics", ["logistic", "squared_error"])
        "did you mean 'logistic'? Known: logistic, squared_error"
    """
    names = [str(each) for each in known]
    loosely = {_loose(each): each for each in names}
    near = difflib.get_close_matches(_loose(name), loosely, n=1, cutoff=0.5)
    hint = f"did you mean {loosely[near[0]]!r}? Known" if near else "known"
    return f"{hint}: {', '.join(each or repr(each) for each in names) or 'none'}"


def _loose(name: object) -> str:
    return str(name).lower().replace("-", "_")


def one_of(what: str, name: str, known: Iterable[str]) -> str:
    """The name; raises ``ValueError``, with the nearest one, unless it is one of the known."""
    names = list(known)
    if name not in names:
        raise ValueError(f"unknown {what} {name!r}; {nearest(name, names)}")
    return name


# --- intervals over seeds -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval, in the unit of the values it was computed from."""

    estimate: float
    low: float
    high: float
    kind: str = "mean"


def t_interval(values: ArrayLike) -> Interval:
    r"""Student's 95 % interval of a mean, $\bar x \pm t_{n-1}\, s/\sqrt n$, two-sided.

    One value has no spread to estimate: its interval is the whole line. Equal values give an interval of
    width zero. Raises ``ValueError`` for what is no list of finite numbers.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        got = array[~np.isfinite(array)][:1] if array.ndim == 1 and array.size else f"shape {array.shape}"
        raise ValueError(f"an interval needs a list of at least one finite number, got {got}")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, -np.inf, np.inf)
    half = float(special.stdtrit(array.size - 1, 0.975) * array.std(ddof=1) / np.sqrt(array.size))
    return Interval(mean, mean - half, mean + half)


# --- files --------------------------------------------------------------------------------------------------------


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file in one step: a reader sees the old content or the new, never a part.

    The new content is written and flushed to a temporary file in the same folder, which then takes the name
    of the old one. On any error the old file stays and the temporary one goes.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's 0600 would travel into the book's downloads
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


@dataclass(frozen=True)
class Runs:
    """Finished runs in a folder, one JSON file each, so that a long experiment goes on where it was stopped.

    A run is written whole or not at all, and is never taken for one that was made with other settings.
    """

    folder: Path

    def get(self, name: str, made_with: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """The rows of a finished run; None when there is none, or, after a warning, when its file is damaged.

        Raises:
            ValueError: the run was made with other values of ``made_with``.
        """
        path = self.folder / f"{name}.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            before, rows = dict(found["made_with"]), list(found["rows"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            warnings.warn(f"{path.name} is damaged: this run is made again", stacklevel=2)
            return None
        now = json.loads(json.dumps(made_with))  # as it reads back: JSON has no tuples
        if other := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
            told = f"{', '.join(other)}; use another folder, or the same values"
            raise ValueError(f"{path.name} was made with other values of {told}")
        return rows

    def put(
        self, name: str, made_with: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], **about: Any
    ) -> None:
        """Keep a finished run: its settings, its rows, and what else is to be said of it, such as ``seconds``."""
        content = {"made_with": dict(made_with), **about, "rows": [*map(dict, rows)]}
        text = json.dumps(content, indent=1, default=lambda number: number.item())  # NumPy's
        write_atomically(self.folder / f"{name}.json", text + "\n")
