"""One run of a chapter as a value that can travel: bytes go in, bytes come out, no shared disk."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from repro.book import cache, claims, runner
from repro.book.claim_models import ChapterClaims
from repro.book.errors import BadInput, BookError, DiskFull, RunFailed, RunLost
from repro.book.files import shown, system_errors
from repro.book.layout import Book
from repro.book.notebooks import read_notebook

if TYPE_CHECKING:
    from repro.book.sweep.grid import Point

__all__ = ["Kit", "Outcome", "Task", "execute"]

_ALONG = ("_config.yml", "book/references.bib")
"""What a notebook may look up in its book, besides its own claims."""


@dataclass(frozen=True)
class Task:
    """One run: the values asked for, and a book of one chapter as files by relative path.

    ``versions`` and ``library`` are what the client has; a worker that has others refuses. ``timeout`` (seconds)
    and ``memory_mb`` replace the profile's budget where they are given.
    """

    id: str
    chapter: str
    values: dict[str, Any]
    files: dict[str, bytes]
    timeout: float | None
    memory_mb: float | None
    versions: dict[str, str]
    library: str


@dataclass(frozen=True)
class Outcome:
    """What became of a task; ``lost`` means ended from outside, so that another try may succeed.

    ``notebook`` is the executed notebook as far as it ran, ``worker`` the host and process that ran it.
    """

    id: str
    status: Literal["done", "failed", "lost"]
    notebook: bytes | None
    ledger: dict[str, Any] | None
    provenance: dict[str, Any] | None
    error: str | None
    error_type: str | None
    seconds: float
    peak_memory_mb: float
    worker: str


@dataclass(frozen=True)
class Kit:
    """What all tasks of a sweep share; ``made_with`` is everything but the parameters that a run depends on."""

    chapter: str
    files: dict[str, bytes]
    claims: ChapterClaims
    made_with: dict[str, Any]
    timeout: float | None
    memory_mb: float | None

    @classmethod
    def of(
        cls, book: Book, chapter: str, *, timeout: float | None = None, memory_mb: float | None = None
    ) -> Kit:
        """Pack a chapter; raises ``BadInput`` for an unknown one or a broken notebook."""
        chapter = book.chapter(chapter)
        notebook, claims_file = book.notebook(chapter), book.claims_file(chapter)
        contents = f"format: jb-book\nroot: book/index\nchapters:\n- file: book/chapters/{chapter}\n"
        own = [notebook, claims_file, *(book.root / name for name in _ALONG if (book.root / name).is_file())]
        files = {path.relative_to(book.root).as_posix(): path.read_bytes() for path in own}
        found = claims.load(claims_file)
        made_with = cache.key_parts(read_notebook(notebook), {}, found, cache.data_files())
        del made_with["parameters"]
        files["_toc.yml"] = contents.encode()
        return cls(chapter, files, found, made_with, timeout, memory_mb)

    @property
    def limits(self) -> dict[str, Any]:
        """The limits given for this sweep, None where the profile's budget holds; and the budgets."""
        budgets = self.claims.model_dump(include={"budget"})
        return {"timeout": self.timeout, "memory_mb": self.memory_mb, **budgets}

    def task(self, point: Point) -> Task:
        """The task of one point."""
        return Task(
            id=point.id,
            chapter=self.chapter,
            values=dict(point.values),
            files=self.files,
            timeout=self.timeout,
            memory_mb=self.memory_mb,
            versions=self.made_with["versions"],
            library=self.made_with["library"],
        )


def execute(task: Task) -> Outcome:
    """Run a task in a temporary folder, which goes in any case: the function that every executor calls.

    A notebook that fails is an outcome, never an exception. Raises ``DiskFull`` where there is no room to work.
    """
    begun = time.monotonic()
    outcome = partial(Outcome, id=task.id, worker=f"{socket.gethostname()}:{os.getpid()}")
    nothing: dict[str, Any] = {"notebook": None, "ledger": None, "provenance": None, "peak_memory_mb": 0.0}
    folder = Path(tempfile.mkdtemp(prefix="sweep-"))
    try:
        with system_errors(folder):
            for name, content in task.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        book = Book(folder)
        if problem := _mismatch(task, book):
            return outcome(status="failed", error=problem, error_type="Mismatch", seconds=0.0, **nothing)
        result = runner.run(
            book,
            task.chapter,
            task.values,
            output=folder / "out",
            use_cache=False,
            timeout=task.timeout,
            memory_mb=task.memory_mb,
        )
        return outcome(
            status="done",
            notebook=result.notebook.read_bytes(),
            ledger=result.ledger,
            provenance=result.provenance,
            error=None,
            error_type=None,
            seconds=float(result.run["seconds"]),
            peak_memory_mb=float(result.run["peak_memory_mb"]),
        )
    except DiskFull:
        raise
    except BookError as error:
        return outcome(
            status=_status(error),
            error=_line(error, task.chapter),
            error_type=type(error).__name__,
            **nothing | {"seconds": round(time.monotonic() - begun, 1)} | _left(error),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _status(error: BookError) -> Literal["failed", "lost"]:
    """Failed where the notebook is to blame; lost where this machine is: killed, or no right to write."""
    its_own = isinstance(error, RunFailed | BadInput) and not isinstance(error, RunLost)
    return "failed" if its_own else "lost"


def _left(error: BookError) -> dict[str, Any]:
    """What a failed run left behind: its notebook, where it comes from, what it cost."""
    path = error.notebook if isinstance(error, RunFailed) else None
    if path is None or not path.is_file():
        return {}
    content = path.read_bytes()
    about = json.loads(content)["metadata"]["repro"]
    return {
        "notebook": content,
        "provenance": about["provenance"],
        "seconds": float(about["run"]["seconds"]),
        "peak_memory_mb": float(about["run"]["peak_memory_mb"]),
    }


def _line(error: BookError, chapter: str) -> str:
    """The error as one line, without the path of a folder that is gone."""
    text = str(error).removeprefix(f"{chapter}: ")
    if isinstance(error, RunFailed) and error.notebook is not None:
        text = text.removesuffix(f"; see {shown(error.notebook)}")
    return " ".join(text.split())


def _mismatch(task: Task, book: Book) -> str | None:
    """What this worker has otherwise than the client, as one line; None when a run here is a run there."""
    here = cache.versions()
    if differing := _differences(task.versions, here):
        return "this worker has other packages than the client: " + ", ".join(differing)
    cells = read_notebook(book.notebook(task.chapter))["cells"]
    library = cache.library({"cells": cells})
    if library != task.library:
        return (
            f"this worker has another version of the library repro than the client: fingerprint {library[:12]}, "
            f"not {task.library[:12]}"
        )
    return None


def _differences(client: Mapping[str, str], worker: Mapping[str, str]) -> list[str]:
    names = sorted({*client, *worker})
    return [
        f"{name} {worker.get(name, 'missing')} instead of {client.get(name, 'none')}"
        for name in names
        if worker.get(name) != client.get(name)
    ]
