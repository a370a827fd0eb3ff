"""The folder of a sweep: what was asked for, one file a finished run, notebooks by content, the table.

=======================  ================================================================================
``sweep.json``           the chapter, the axes as given, the points, what the runs are made with
``runs/ID.json``         one run that ended, with a checksum; written whole or not at all
``notebooks/HASH.ipynb`` executed notebooks, named by the SHA-256 of their content
``table.parquet``        one row a run of the present points; ``table.csv`` is the same
``damaged/``             run files that did not match their checksum, set aside
=======================  ================================================================================

A run made with another notebook, library, data, claims or package versions is stale: it is not in the table, and
the next sweep in the folder replaces it.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from repro.book import claims
from repro.book.errors import BadInput, BookError, Locked
from repro.book.files import sha256, shown, system_errors, write_atomically
from repro.book.layout import Book
from repro.book.parameters import Value
from repro.book.sweep.grid import Point
from repro.book.sweep.tasks import Kit, Outcome

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Store", "default_folder"]

Run = dict[str, Any]
_SETTLED = ("done", "failed")
_ABOUT = (
    *("status", "error", "error_type", "attempts", "seconds", "peak_memory_mb"),
    *("worker", "finished", "notebook"),
)
"""Columns of the table that tell how a run went."""


def default_folder(book: Book, chapter: str, points: Sequence[Point]) -> Path:
    """Where a sweep is kept unless told otherwise: the same points of the same chapter, the same folder."""
    plan = sha256(*sorted(point.id.encode() for point in points))[:8]
    return book.build_dir / "sweeps" / f"{chapter}-{plan}"


@dataclass(frozen=True)
class Store:
    """The runs of one sweep on disk. Open it with ``Store.open``, which holds the folder's lock."""

    folder: Path
    kit: Kit
    points: tuple[Point, ...]

    @classmethod
    @contextmanager
    def open(
        cls,
        folder: Path,
        kit: Kit,
        points: Sequence[Point],
        *,
        resume: bool,
        plan: Mapping[str, Any] | None = None,
    ) -> Iterator[Store]:
        """The folder, for this process alone.

        Args:
            folder: made if it is not there.
            kit: the chapter as packed for the runs.
            points: what the sweep is to run.
            resume: accept a folder that holds finished runs.
            plan: what else ``sweep.json`` is to say, e.g. the axes as typed.

        Raises:
            Locked: another sweep is at work in the folder.
            BadInput: the folder holds the sweep of another chapter, or finished runs without ``resume``; a
                parameter has the name of a column.
        """
        with system_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock", timeout=0)
        with system_errors(folder):
            try:
                lock.acquire()
            except filelock.Timeout:
                raise Locked(
                    f"another sweep is at work in {shown(folder)}; wait for it, or stop it first"
                ) from None
        try:
            store = cls(folder, kit, tuple(points))
            store._refuse_foreign(resume)
            for left in folder.rglob(".*.part"):
                left.unlink(missing_ok=True)
            store._write_plan(plan or {})
            yield store
        finally:
            lock.release()

    def _refuse_foreign(self, resume: bool) -> None:
        for name in {name for point in self.points for name in point.resolved} & {"id", *_ABOUT}:
            raise BadInput(f"a sweep's table has a column {name!r}: give that parameter another name")
        try:
            chapter = json.loads((self.folder / "sweep.json").read_text(encoding="utf-8"))["chapter"]
        except (OSError, ValueError, KeyError, TypeError):
            chapter = None
        if chapter not in (None, self.kit.chapter):
            raise BadInput(
                f"{shown(self.folder)} holds a sweep of {chapter}; give --output another folder for {self.kit.chapter}"
            )
        n_kept = sum(1 for _ in (self.folder / "runs").glob("*.json"))
        if n_kept and not resume:
            raise BadInput(
                f"{shown(self.folder)} holds {n_kept} finished run{'s' * (n_kept > 1)}: "
                "go on with --resume, or give --output another folder"
            )

    def _write_plan(self, plan: Mapping[str, Any]) -> None:
        content = {
            "schema": 1,
            "chapter": self.kit.chapter,
            **plan,
            "limits": self.kit.limits,
            "made_with": self.kit.made_with,
            "points": [{"id": point.id, "values": point.resolved} for point in self.points],
        }
        write_atomically(self.folder / "sweep.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @cached_property
    def _values(self) -> dict[str, dict[str, Value]]:
        return {point.id: point.resolved for point in self.points}

    @cached_property
    def _made_with(self) -> str:
        return sha256(json.dumps(self.kit.made_with, sort_keys=True).encode())

    def _path(self, point_id: str) -> Path:
        return self.folder / "runs" / f"{point_id}.json"

    def finished(self) -> dict[str, str]:
        """Status by id of the points that need no run: done or failed, by this very notebook, library and data.

        A run that was lost is none of these, nor is one that a worker with other packages refused, nor one that
        went over its budget when the limits are now others.
        """
        return {
            run["id"]: run["status"]
            for run in self._runs(thorough=True)
            if run["status"] in _SETTLED
            and run["error_type"] != "Mismatch"
            and not (run["error_type"] == "BudgetExceeded" and run["limits"] != self.kit.limits)
        }

    def _runs(self, *, thorough: bool = False) -> Iterator[Run]:
        """The fresh runs of the present points, in the order of the points; thorough: notebooks checked too."""
        for point in self.points:
            run = self._read(point.id, thorough)
            if run is not None and run["made_with"] == self._made_with:
                yield run

    def _read(self, point_id: str, thorough: bool) -> Run | None:
        """A run as it was written; None when there is none, or when it is damaged and now set aside."""
        path = self._path(point_id)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            run: Run = content["run"]
            if content["checksum"] == _checksum(run) and (not thorough or self._has_notebook(run)):
                return run
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        with system_errors(path):
            aside = self.folder / "damaged" / path.name
            aside.parent.mkdir(exist_ok=True)
            os.replace(path, aside)
        return None

    def _has_notebook(self, run: Run) -> bool:
        if run["notebook"] is None:
            return True
        path = self.folder / run["notebook"]
        if path.is_file() and sha256(path.read_bytes()) == path.stem:
            return True
        path.unlink(missing_ok=True)
        return False

    def put(self, outcome: Outcome, *, attempts: int = 1) -> str:
        """Keep a run that ended; returns its status, ``failed`` where its ledger could not be judged.

        The notebook is written before the run that names it, so that a run that is there is whole. Raises
        ``DiskFull``; what was there before is then unchanged.
        """
        status, error, error_type, judged = outcome.status, outcome.error, outcome.error_type, {}
        if outcome.ledger is not None:
            try:
                judged = self._judged(outcome.ledger)
            except BookError as problem:
                status, error, error_type = "failed", str(problem), type(problem).__name__
        name = None
        if outcome.notebook is not None:
            name = f"notebooks/{sha256(outcome.notebook)}.ipynb"
            if not (self.folder / name).is_file():
                write_atomically(self.folder / name, outcome.notebook)
        run: Run = {
            "id": outcome.id,
            "values": self._values[outcome.id],
            "status": status,
            "error": error,
            "error_type": error_type,
            "attempts": attempts,
            "seconds": outcome.seconds,
            "peak_memory_mb": outcome.peak_memory_mb,
            "worker": outcome.worker,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "limits": self.kit.limits,
            "made_with": self._made_with,
            "notebook": name,
            "claims": judged,
            "provenance": outcome.provenance,
        }
        content = {"checksum": _checksum(run), "run": run}
        write_atomically(self._path(outcome.id), json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return status

    def _judged(self, ledger: Mapping[str, Any]) -> dict[str, Any]:
        """Columns of the table: verdict of each claim; mean, values and verdict of each of its tests."""
        columns: dict[str, Any] = {}
        found = claims.judge(self.kit.claims, ledger["measurements"], ledger["not_tested"], ledger["profile"])
        for claim_id, claim in found.items():
            columns[f"{claim_id}.verdict"] = claim.verdict
            for name, test in claim.tests.items():
                columns[f"{claim_id}.{name}.mean"] = (
                    sum(test.values) / len(test.values) if test.values else None
                )
                columns[f"{claim_id}.{name}.values"] = json.dumps(test.values)
                columns[f"{claim_id}.{name}.verdict"] = test.verdict
        return columns

    def table(self) -> pd.DataFrame:
        """One row a run, in the order of the points.

        Columns: ``id``; the parameters by name; ``status`` (done, failed, lost), ``error``, ``error_type``,
        ``attempts``, ``seconds``, ``peak_memory_mb`` (MB of 10^6 bytes), ``worker``, ``finished``, ``notebook``
        (path in the folder); for each claim ``CLAIM.verdict``, and for each of its tests ``CLAIM.TEST.mean``,
        ``CLAIM.TEST.values`` (JSON, one number a seed) and ``CLAIM.TEST.verdict``.
        """
        import pandas as pd

        rows = [
            {"id": run["id"], **run["values"]} | {name: run[name] for name in _ABOUT} | run["claims"]
            for run in self._runs()
        ]
        # a table without rows is still one that can be read
        columns = ["id", *dict.fromkeys(name for point in self.points for name in point.resolved), *_ABOUT]
        return pd.DataFrame(rows, columns=None if rows else columns)

    def write_table(self) -> Path:
        """Write ``table.parquet`` and ``table.csv``; returns the path of the first."""
        table = self.table()
        parquet = io.BytesIO()
        table.to_parquet(parquet, index=False)
        write_atomically(self.folder / "table.csv", table.to_csv(index=False))
        write_atomically(self.folder / "table.parquet", parquet.getvalue())
        return self.folder / "table.parquet"


def _checksum(run: Mapping[str, Any]) -> str:
    return sha256(json.dumps(run, sort_keys=True, ensure_ascii=True).encode())
