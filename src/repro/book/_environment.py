"""What a run depends on, as hashes and plain values, and an environment in which nothing else acts on a number.

A run is repeated only when its key has changed. That covers the notebook's code, the resolved parameters, the names of
claims and tests, the part of the library that the notebook imports, the versions of the packages that matter, the
settings of the machine that reach a run, and the files that it may read. Prose, what the claims say, and how a page
shows a cell are none of it: a run's values are judged anew on every build.

The part of the library is found by reading, not by running: the notebook's imports, the imports of those modules, and
so on, inside ``repro``. A change to a module that a chapter does not reach leaves its fingerprint alone.
"""

from __future__ import annotations

import ast
import os
import platform
import re
import site
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from joblib import cpu_count

import repro
from repro.book._files import hash_of, hash_of_files, sha256
from repro.book._notebooks import code_cells, source_of
from repro.book.claims import ChapterClaims
from repro.book.layout import Book

LIBRARY = Path(repro.__file__).parent
PACKAGES = (
    *("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "statsmodels", "nolds", "mlxtend"),
    *("numba", "celer", "matplotlib", "seaborn", "ipykernel", "papermill"),
)
"""The dependencies whose version can change a number or a picture."""

_SET = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",  # which may hold a usercustomize
    "LC_ALL": "C.UTF-8",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "JUPYTER_NO_CONFIG": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "REPRO_PROGRESS": "0",
}
_DROPPED = re.compile(
    "PYTHON|IPY|JUPYTER|MPL|MATPLOTLIB|TORCH|PYTORCH|SCIPY_|SKLEARN_|LC_|LANG|COLUMNS|LINES"
)
_HARMLESS = re.compile("PYTHON(HOME|DONTWRITEBYTECODE|PYCACHEPREFIX|UNBUFFERED|FAULTHANDLER)$")
"""Where and how Python starts, which no number depends on."""
_NAMED = re.compile(
    "(OPENBLAS|GOTO|BLIS|MKL|NVPL|VECLIB|ATEN|ONEDNN|DNNL|NPY|NUMBA|OMP|GOMP|KMP|CUDA|CUDNN|CUBLAS|NVIDIA|LD|DYLD)_"
    "|GLIBC_TUNABLES"
)
"""What fits the machine, such as the kernels of a BLAS: it stays as it is, and belongs to the key."""
_BIG = 1 << 30
# what papermill and nbclient look at; all others say how a page shows a cell
_RUN_TAGS = frozenset({"parameters", "injected-parameters", "raises-exception", "skip-execution"})
_OWN = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_PATH")


def settings() -> dict[str, str]:
    """The variables of this environment that reach a run and can change its bits."""
    named = {name: value for name, value in sorted(os.environ.items()) if _NAMED.match(name)}
    return {name: value for name, value in named.items() if name not in _SET}


def sealed(book: Book, folder: Path) -> dict[str, str]:
    """The environment of a process that runs or renders notebooks of this book.

    One thread, a fixed hash seed, C's locale, this very library; configuration of Python, IPython, Jupyter,
    Matplotlib and PyTorch in ``folder``, which is the process's own, in place of the user's.
    """
    own = {name: str(folder / name.lower()) for name in _OWN}
    own |= {"MPLCONFIGDIR": str(_matplotlib_folder(folder)), "PYTHONPATH": _python_path()}
    own |= {"REPRO_BOOK": str(book.root)}
    if "REPRO_DATA" in os.environ:
        own["REPRO_DATA"] = os.path.abspath(os.environ["REPRO_DATA"])
    dropped = {name for name in os.environ if _DROPPED.match(name) and not _HARMLESS.match(name)}
    return {name: value for name, value in os.environ.items() if name not in dropped} | _SET | own


def _matplotlib_folder(folder: Path) -> Path:
    """Matplotlib's list of the fonts here takes seconds to make where there are many: it outlives the run if it can."""
    with suppress(OSError, RuntimeError):  # RuntimeError: there is no home
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "repro", "matplotlib")
        place.mkdir(parents=True, exist_ok=True)
        if os.access(place, os.W_OK):
            return place
    return folder / "matplotlib"


def _python_path() -> str:
    """Where this process has its library and the packages of the key, as far as Python does not look there anyway."""
    places = [str(LIBRARY.parent)]
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            places.append(str(metadata.distribution(name).locate_file("")))
    return os.pathsep.join(place for place in dict.fromkeys(places) if place not in site.getsitepackages())


# --- the key -------------------------------------------------------------------------------------------------------


def key_parts(
    notebook: Mapping[str, Any],
    values: Mapping[str, object],
    claims: ChapterClaims | None,
    files: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that a run depends on, as hashes and plain values; what the result's provenance quotes.

    ``files`` are the checksums of what it may read, by name.
    """
    cells = [
        [source_of(cell), sorted(_RUN_TAGS.intersection(cell.get("metadata", {}).get("tags", [])))]
        for cell in code_cells(notebook)
    ]
    return {
        "code": hash_of(cells),
        "parameters": dict(values),
        "claims": None if claims is None else {c.id: [t.name for t in c.tests] for c in claims.claims},
        "library": hash_of_files(LIBRARY, library_files(notebook)),
        "versions": versions(),
        "settings": settings(),
        "files": dict(files),
    }


def versions() -> dict[str, str]:
    """Python's version and those of the dependencies that matter to a result."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


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
    known, files = _known(LIBRARY), set[Path]()
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


@cache
def whole_library() -> str:
    """One hash of all modules of this library, and of the tables and templates beside them."""
    return hash_of_files(LIBRARY, sorted(p for p in LIBRARY.rglob("*.*") if p.suffix != ".pyc"))


# --- machine and repository ----------------------------------------------------------------------------------------


def answer(*command: str) -> str | None:
    """What a program prints; None where it is missing, fails, or takes long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def git(root: Path, *arguments: str) -> str | None:
    """What git answers in this folder, without a lock; None where it fails, or there is no git or no repository."""
    return answer("git", "--no-optional-locks", "-C", str(root), *arguments)


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


def machine() -> dict[str, Any]:
    """The kind of machine: system, processor architecture, cores, and the accelerator if there is one."""
    kind: dict[str, Any] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": cpu_count(),
        "python": platform.python_version(),
    }
    if names := answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"):
        kind["accelerators"] = [name.strip() for name in names.splitlines()]
    return kind


@cache
def repository_url(root: Path) -> str | None:
    """The repository's address as ``_config.yml`` gives it (``repository: url``), without a final slash."""
    try:
        content = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        return str(content["repository"]["url"]).rstrip("/")
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
