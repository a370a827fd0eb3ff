"""Executed notebooks kept by content: a run is repeated only when something it depends on has changed.

The key covers the notebook's code, the resolved parameters, the names of claims and tests, the part of the library
that the notebook imports, the versions of the packages that matter, the settings of the machine that reach a run, and
the files that it may read. Prose, what the claims say, and how a page shows a cell are none of it: a run's values are
judged anew on every build.

The part of the library is found by reading, not by running: the notebook's imports, the imports of those modules,
and so on, inside ``repro``. A change to a module that a chapter does not reach leaves its fingerprint alone.
"""

from __future__ import annotations

import ast
import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import repro
from repro.book._environment import PACKAGES, git, settings
from repro.book._files import hash_of_files, sha256, write_atomically
from repro.book._notebooks import code_cells, source_of
from repro.book.claims import ChapterClaims

_LIBRARY = Path(repro.__file__).parent
_BIG = 1 << 30
# what papermill and nbclient look at; all others say how a page shows a cell
_RUN_TAGS = frozenset({"parameters", "injected-parameters", "raises-exception", "skip-execution"})


def key_parts(
    notebook: Mapping[str, Any],
    values: Mapping[str, object],
    claims: ChapterClaims | None,
    files: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that a run depends on, as hashes and plain values; what the result's provenance quotes.

    ``files`` are the checksums of what it may read, by name.
    """
    return {
        "code": _code_hash(notebook),
        "parameters": dict(values),
        "claims": None if claims is None else {c.id: [t.name for t in c.tests] for c in claims.claims},
        "library": hash_of_files(_LIBRARY, library_files(notebook)),
        "versions": versions(),
        "settings": settings(),
        "files": dict(files),
    }


def run_key(parts: Mapping[str, Any]) -> str:
    """One hash of these parts."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode())


def kept(folder: Path, key: str) -> bytes | None:
    """What was kept under a key, such as an executed notebook; None where it never was, or is damaged."""
    with suppress(OSError):
        checksum, _, content = (folder / f"{key}.run").read_bytes().partition(b"\n")
        if checksum == sha256(content).encode():
            return content
    return None


def keep(folder: Path, key: str, content: bytes) -> None:
    """Keep something under a key, with its checksum; the entry appears whole or not at all."""
    write_atomically(folder / f"{key}.run", sha256(content).encode() + b"\n" + content)


def _code_hash(notebook: Mapping[str, Any]) -> str:
    """A hash of the code cells' sources, and of those tags that change how they run; prose does not matter."""
    cells = [
        [source_of(cell), sorted(_RUN_TAGS.intersection(cell.get("metadata", {}).get("tags", [])))]
        for cell in code_cells(notebook)
    ]
    return sha256(json.dumps(cells, ensure_ascii=True).encode())


def versions() -> dict[str, str]:
    """Python's version and those of the dependencies that matter to a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# --- the library --------------------------------------------------------------------------------------------------


@cache
def _names(source: str) -> tuple[str, ...] | None:
    """Dotted names that a module or cell may import, by full names; None where it cannot be read."""
    lines = ["pass" if line.startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        nodes = list(ast.walk(ast.parse("\n".join(lines))))
    except (SyntaxError, ValueError):
        return None
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    of = [(node.module or "", node.names) for node in nodes if isinstance(node, ast.ImportFrom)]
    return (*plain, *(name for name, _ in of), *(f"{n}.{alias.name}" for n, some in of for alias in some))


@cache
def _known(root: Path) -> dict[str, Path]:
    """Every module of a package folder by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def library_files(notebook: Mapping[str, Any]) -> list[Path]:
    """The files of the library that a notebook depends on: modules, and what else lies in their packages.

    A module brings its parents along, as Python runs their ``__init__`` first. A cell that cannot be parsed may
    import anything: then it is all of them.
    """
    known, files = _known(_LIBRARY), set[Path]()
    waiting = [source_of(cell) for cell in code_cells(notebook)]
    while waiting:
        if (names := _names(waiting.pop())) is None:
            files = set(known.values())
            break
        parents = (
            ".".join(parts[: n + 1])
            for parts in (name.split(".") for name in names)
            for n in range(len(parts))
        )
        new = {known[name] for name in parents if name in known} - files
        files |= new
        waiting += [path.read_text(encoding="utf-8") for path in new]
    for package in {path.parent for path in files if path.name == "__init__.py"}:
        files.update(p for p in package.iterdir() if p.is_file() and p.suffix not in (".py", ".pyc"))
    return sorted(files)


# --- the data, and where it all comes from ------------------------------------------------------------------------


def data_files() -> dict[str, str]:
    """Checksums of the files in the folder that ``REPRO_DATA`` names, by their path in it; empty without one.

    A file above 1 GiB counts by its size and time alone.
    """
    folder = os.environ.get("REPRO_DATA")
    found = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()) if folder else ():
        status = path.stat()
        big = status.st_size > _BIG
        content = repr([status.st_size, status.st_mtime_ns]).encode() if big else path.read_bytes()
        found[path.relative_to(str(folder)).as_posix()] = sha256(content)
    return found


def commit_of(root: Path, files: Sequence[Path]) -> dict[str, Any]:
    """The commit that is checked out, and whether any of the files that matter differs from it.

    Returns {"commit": hash or None, "dirty": bool or None}; None: the book is not in a git repository.
    """
    commit = git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    inside = [str(path) for path in files if path.resolve().is_relative_to(root.resolve())]
    changed = git(root, "status", "--porcelain", "--untracked-files=all", "--ignored", "--", *inside)
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}
