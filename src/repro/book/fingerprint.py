"""What a run depends on, as hashes: the notebook's code, the part of the library that it imports, the data it may read.

The part of the library is found by reading, not by running: the notebook's imports, the imports of those modules,
and so on, inside ``repro``. A change to a module that a chapter does not reach leaves its fingerprint alone.
"""

from __future__ import annotations

import ast
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import repro
from repro.book.files import sha256
from repro.book.notebooks import source_of

__all__ = [
    "PACKAGES",
    "code_hash",
    "data_files",
    "library",
    "library_files",
    "modules",
    "versions",
]

# the dependencies whose version can change a number or a picture
PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "statsmodels", "nolds", "mlxtend"),
    *("matplotlib", "seaborn", "ipykernel", "papermill"),
)
_BIG = 1 << 30
# what papermill and nbclient look at; all others say how a page shows a cell
_RUN_TAGS = frozenset({"parameters", "injected-parameters", "raises-exception", "skip-execution"})


def code_hash(notebook: Mapping[str, Any]) -> str:
    """A hash of the code cells' sources, and of those tags that change how they run; prose does not matter."""
    cells = [
        [source_of(cell), sorted(_RUN_TAGS.intersection(cell.get("metadata", {}).get("tags", [])))]
        for cell in notebook["cells"]
        if cell.get("cell_type") == "code"
    ]
    return sha256(json.dumps(cells, ensure_ascii=True).encode())


def versions() -> dict[str, str]:
    """Python's version and those of the dependencies that matter to a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


# --- the library ---------------------------------------------------------------------------------------------


def _parse(source: str) -> ast.Module | None:
    """The syntax tree of a module or cell, IPython's magic lines left out; None where it cannot be read."""
    lines = ["pass" if line.startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        return ast.parse("\n".join(lines))
    except (SyntaxError, ValueError):
        return None


def _names(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names that a module may import; ``package`` is what its relative imports start from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


@cache
def _known(root: Path) -> dict[str, Path]:
    """Every module of a package folder by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def modules(sources: Iterable[str], root: Path | None = None) -> set[str]:
    """The modules of the package at ``root`` (``repro`` itself by default) that these sources reach.

    A module brings its parents along, as Python runs their ``__init__`` first. A cell that cannot be parsed may
    import anything: then it is all of them.
    """
    root = root or Path(repro.__file__).parent
    known = _known(root)
    reached: set[str] = set()
    waiting: list[str] = []
    for source in sources:
        tree = _parse(source)
        if tree is None:
            return set(known)
        waiting.extend(_names(tree, ""))
    while waiting:
        name = waiting.pop()
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            module = ".".join(parts[:end])
            if module in reached or module not in known:
                continue
            reached.add(module)
            path = known[module]
            tree = _parse(path.read_text(encoding="utf-8"))
            if tree is None:
                return set(known)
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            waiting.extend(_names(tree, package))
    return reached


def library_files(sources: Sequence[str], root: Path | None = None) -> list[Path]:
    """The files of the library that these sources depend on: modules, and what else lies in their packages."""
    root = root or Path(repro.__file__).parent
    known = _known(root)
    files = {known[name] for name in modules(sources, root)}
    for package in {path.parent for path in files if path.name == "__init__.py"}:
        files.update(
            path for path in package.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc")
        )
    return sorted(files)


def library(sources: Sequence[str], root: Path | None = None) -> str:
    """One hash of the part of the library that these sources depend on."""
    root = root or Path(repro.__file__).parent
    parts: list[bytes] = []
    for path in library_files(sources, root):
        parts += [path.relative_to(root).as_posix().encode(), path.read_bytes()]
    return sha256(*parts)


# --- the data ------------------------------------------------------------------------------------------------


def data_files(memory: dict[str, list[Any]] | None = None) -> dict[str, str]:
    """Checksums of the files in the folder that ``REPRO_DATA`` names, by their path in it; empty without one.

    ``memory`` maps a path to [size, modification time, checksum] from last time and is brought up to date, so that
    only new or changed files are read. A file above 1 GiB counts by its size and time alone.
    """
    folder = os.environ.get("REPRO_DATA")
    if not folder or not Path(folder).is_dir():
        return {}
    memory = {} if memory is None else memory
    found = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = memory.get(str(path))
        if known is None or known[:2] != stamp:
            big = status.st_size > _BIG
            checksum = sha256(repr(stamp).encode()) if big else sha256(path.read_bytes())
            memory[str(path)] = [*stamp, checksum]
        found[path.relative_to(folder).as_posix()] = memory[str(path)][2]
    return found
