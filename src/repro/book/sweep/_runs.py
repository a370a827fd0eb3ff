"""One run of a sweep as a value that can travel, and the folder that keeps what became of it.

====================  ============================================================================
``sweep.json``        the chapter, what was asked for, the points, what the runs are made with
``runs/ID.run``       one run that ended, with a checksum; written whole or not at all
``notebooks/``        executed notebooks, ``ID.ipynb``, as far as they ran
``table.parquet``     one row a run, made from ``runs``; ``table.csv`` is the same
====================  ============================================================================

A run made with another notebook, library, data, claims or package versions is stale: it is not in the table, and the
next sweep in the folder replaces it.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from repro.book import claims, runner
from repro.book._environment import data_files, key_parts
from repro.book._files import alone, hash_of, keep, kept, sha256, shown, system_errors, write_atomically
from repro.book._notebooks import read_notebook
from repro.book.errors import BadInput, BookError, DiskFull, RunFailed
from repro.book.layout import Book
from repro.book.results import Results

Row = dict[str, Any]
"""What the table says of a run besides its parameters: how it went, what was measured, the verdicts."""

_ABOUT = ("status", "error", "attempts", "seconds", "peak_memory_mb", "worker", "finished", "notebook")
"""Columns of the table that tell how a run went."""


@dataclass(frozen=True)
class Task:
    """One run: its parameters, and a book of one chapter as files by relative path.

    ``limits`` are ``timeout`` (seconds) and ``memory_mb``; None stands for the profile's budget.
    """

    chapter: str
    values: dict[str, Any]
    files: Mapping[str, bytes]
    limits: Mapping[str, float | None]


def execute(task: Task) -> tuple[Row, bytes | None]:
    """Run a task in a temporary folder, which goes in any case: what it comes to, and the notebook as far as it ran.

    The status is ``done``; ``failed`` where the notebook is to blame; ``lost`` where the run was ended from outside or
    this machine is at fault, so that another try may succeed. Raises ``DiskFull`` where there is no room to work.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True) as place:
        book = Book(Path(place))
        with system_errors(book.root):
            for name, content in task.files.items():
                (book.root / name).parent.mkdir(parents=True, exist_ok=True)
                (book.root / name).write_bytes(content)
        row, notebook = _run(book, task)
        kept = notebook.read_bytes() if notebook is not None and notebook.is_file() else None
    cost = json.loads(kept)["metadata"]["repro"]["run"] if kept else {}
    about = {
        "seconds": float(cost.get("seconds", time.monotonic() - begun)),
        "peak_memory_mb": float(cost.get("peak_memory_mb", 0.0)),
        "worker": f"{socket.gethostname()}:{os.getpid()}",
    }
    return about | row, kept


def _run(book: Book, task: Task) -> tuple[Row, Path | None]:
    out, limits = book.root / "out", dict(task.limits)
    try:
        run = runner.run(book, task.chapter, task.values, output=out, use_cache=False, **limits)  # type: ignore[arg-type]
        return {"status": "done", "error": None} | _columns(run.found), run.notebook
    except DiskFull:
        raise
    except BookError as error:
        notebook = error.notebook if isinstance(error, RunFailed) else None
        its_own = isinstance(error, BadInput) or (isinstance(error, RunFailed) and not error.lost)
        text = str(error).removeprefix(f"{task.chapter}: ").removesuffix(f"; see {shown(notebook or out)}")
        return {"status": "failed" if its_own else "lost", "error": " ".join(text.split())}, notebook


def _columns(found: Results | None) -> Row:
    """Columns of the table: the verdict of each claim; mean and values of each of its tests."""
    columns: Row = {}
    for claim_id, claim in found.claims.items() if found else ():
        columns[f"{claim_id}.verdict"] = claim.word
        for name, test in (claim.deciding | claim.supporting).items():
            columns[f"{claim_id}.{name}.mean"] = fmean(test.values) if test.values else None
            columns[f"{claim_id}.{name}.values"] = json.dumps(test.values)
    return columns


@dataclass(frozen=True)
class Folder:
    """The runs of one sweep on disk. Open it with ``Folder.open``, which holds the folder's lock.

    ``points`` holds the parameters of each run by its id, ``files`` a book of the one chapter, ``made_with`` everything
    but the parameters that a run depends on.
    """

    path: Path
    chapter: str
    points: Mapping[str, dict[str, Any]]
    files: Mapping[str, bytes]
    made_with: Mapping[str, Any]

    @classmethod
    @contextmanager
    def open(
        cls,
        book: Book,
        chapter: str,
        points: Mapping[str, dict[str, Any]],
        path: Path | None = None,
        *,
        resume: bool = False,
        asked: Mapping[str, Any] | None = None,
    ) -> Iterator[Folder]:
        """The folder of a sweep of this chapter, for this process alone.

        Args:
            book: the book, ``chapter`` the name of one of its chapters, ``points`` as below.
            path: where the sweep is kept (default: ``_build/sweeps/CHAPTER-HASH``, the same for the same points).
            resume: accept a folder that holds finished runs.
            asked: what else ``sweep.json`` is to say.

        Raises:
            Locked: another sweep is at work in the folder.
            BadInput: an unknown chapter, a broken notebook, a folder with finished runs and no ``resume``, a parameter
                with the name of a column.
        """
        notebook, claims_file = book.notebook(chapter), book.claims_file(chapter)
        contents = f"format: jb-book\nroot: book/index\nchapters:\n- file: book/chapters/{chapter}\n"
        own = filter(Path.is_file, (notebook, claims_file, book.root / "_config.yml"))
        files = {file.relative_to(book.root).as_posix(): file.read_bytes() for file in own}
        told = claims.load(claims_file)
        made_with = key_parts(read_notebook(notebook), {}, told, data_files())
        # the table holds verdicts, so what decides them counts, though not their words
        decides = {one.id: [one.kind, one.together] for one in told.claims}
        made_with["decides"] = decides | {f"{c.id} {t.name}": str(t.criterion) for c, t in told.deciding()}
        name = f"{chapter}-{sha256(*sorted(id_.encode() for id_ in points))[:8]}"
        path = path or book.build_dir / "sweeps" / name
        folder = cls(path, chapter, points, files | {"_toc.yml": contents.encode()}, made_with)
        with alone(path / ".lock", f"sweep is at work in {shown(path)}"):
            for column in {name for values in points.values() for name in values} & {"id", *_ABOUT}:
                raise BadInput(f"a sweep's table has a column {column!r}: give that parameter another name")
            if not resume and (n := len(list((path / "runs").glob("*.run")))):
                how = "go on with --resume, or give --output another folder"
                raise BadInput(f"{shown(path)} holds {n} finished run{'s' * (n > 1)}: {how}")
            for left in path.rglob(".*.part"):
                left.unlink(missing_ok=True)
            plan = {"schema": 1, "chapter": chapter, **(asked or {}), "made_with": made_with}
            plan["points"] = [{"id": id_, "values": values} for id_, values in points.items()]
            write_atomically(path / "sweep.json", json.dumps(plan, indent=1) + "\n")
            yield folder

    def put(self, id_: str, row: Row, notebook: bytes | None, attempts: int) -> None:
        """Keep a run that ended. Raises ``DiskFull``; what was there before is then unchanged."""
        name = f"notebooks/{id_}.ipynb" if notebook is not None else None
        if name is not None and notebook is not None:
            write_atomically(self.path / name, notebook)
        finished = datetime.now(UTC).isoformat(timespec="seconds")
        row = row | {"attempts": attempts, "finished": finished, "notebook": name}
        row = {name: row.get(name) for name in _ABOUT} | row
        run = {"values": self.points[id_], "row": row, "made_with": hash_of(self.made_with)}
        keep(self.path / "runs", id_, json.dumps(run, indent=1).encode())

    def rows(self) -> dict[str, Row]:
        """What is known of the present points, by id, in their order: their runs that are neither stale nor damaged."""
        runs = {id_: kept(self.path / "runs", id_) for id_ in self.points}
        found = {id_: json.loads(content) for id_, content in runs.items() if content is not None}
        now = hash_of(self.made_with)
        return {id_: run["row"] for id_, run in found.items() if run["made_with"] == now}

    def write_table(self) -> None:
        """Write ``table.parquet`` and ``table.csv``: one row a run, in the order of the points.

        Columns: ``id``; the parameters by name; ``status`` (done, failed, lost), ``error``, ``attempts``,
        ``seconds``, ``peak_memory_mb`` (MB of 10^6 bytes), ``worker``, ``finished``, ``notebook``
        (path in the folder); for each claim ``CLAIM.verdict``, and for each of its tests ``CLAIM.TEST.mean``
        and ``CLAIM.TEST.values`` (JSON, one number a seed).
        """
        import pandas as pd

        found = [{"id": id_, **self.points[id_], **row} for id_, row in self.rows().items()]
        # a table without rows is still one that can be read
        empty = ["id", *next(iter(self.points.values())), *_ABOUT]
        table = pd.DataFrame(found, columns=None if found else empty)
        write_atomically(self.path / "table.csv", table.to_csv(index=False))
        write_atomically(self.path / "table.parquet", table.to_parquet(index=False))
