"""Files that keep finished runs, one each: written whole or not at all, never taken for another setting's."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from repro.papers.implicit_sparsification.methods import method
from repro.papers.implicit_sparsification.settings import Setting

__all__ = ["COLUMNS", "Run", "RunFiles", "content"]

COLUMNS = ["sparsity", "validation_accuracy", "test_accuracy", "dose", "flips", "diverged"]
"""Of the rows of a run."""
_SAID_OF_METHODS = ("penalty", "scale", "schedule", "fast", "decayed", "temperature")


@dataclass(frozen=True)
class Run:
    """One network of a setting."""

    method: str
    strength: float
    seed: int


def content(path: Path, consequence: str) -> dict[str, Any] | None:
    """What a file holds, or None after a warning where it was cut short or damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        complete = isinstance(found, dict) and {"parameters", "run", "rows"} <= found.keys()
    except ValueError:
        complete = False
    if complete:
        return found
    warnings.warn(f"{path.name} is damaged (not the JSON of a finished run): {consequence}", stacklevel=3)
    return None


def _plain(value: object) -> object:
    """A setting's values in words and numbers, alike in every process: no addresses of functions."""
    if isinstance(value, partial):
        return {"function": _plain(value.func), "args": _plain(value.args)} | {
            name: _plain(own) for name, own in value.keywords.items()
        }
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, int | float | str | None) else repr(value)


class RunFiles:
    """The files of one setting."""

    def __init__(
        self, folder: Path, chosen: Setting, sparsities: Sequence[float], mixed_precision: bool
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name = folder, chosen.name
        told = {field.name: _plain(getattr(chosen, field.name)) for field in fields(chosen)}
        self._parameters = told | {
            "sparsities": [float(s) for s in sparsities],
            "mixed_precision": mixed_precision,
        }

    def _path(self, run: Run) -> Path:
        return self._folder / f"{self._name}-{run.method}-{run.strength!r}-{run.seed}.json"

    def _made_with(self, run: Run) -> dict[str, object]:
        how = method(run.method)
        return self._parameters | {name: _plain(getattr(how, name)) for name in _SAID_OF_METHODS}

    def read(self, run: Run) -> pd.DataFrame | None:
        """Rows of a finished run; None if there is none, or none that can be read."""
        path = self._path(run)
        if not path.exists() or (found := content(path, "this run is made again")) is None:
            return None
        if different := {n for n, v in self._made_with(run).items() if found["parameters"].get(n) != v}:
            raise ValueError(
                f"{path.name} was made with other values of {sorted(different)}; use another folder, or "
                "the same values"
            )
        return pd.DataFrame(found["rows"])

    def write(self, batch: list[Run], tables: Mapping[Run, pd.DataFrame], seconds: float) -> None:
        """Write each finished run of a batch, whole or not at all."""
        for run in batch:
            path = self._path(run)
            written = {
                "parameters": self._made_with(run),
                "run": asdict(run),
                "trained_with": [[other.strength, other.seed] for other in batch],
                "seconds": round(seconds / len(batch), 1),
                "rows": tables[run].to_dict("records"),
            }
            path.with_suffix(".part").write_text(json.dumps(written, indent=1) + "\n")
            path.with_suffix(".part").replace(path)
