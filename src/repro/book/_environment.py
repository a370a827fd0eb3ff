"""Where a run takes place: an environment in which nothing of the user's acts on a number, a machine, a repository."""

from __future__ import annotations

import os
import platform
import re
import shutil
import site
import subprocess
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

import repro
from repro.book.layout import Book

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
    places = [str(Path(repro.__file__).parents[1])]
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            places.append(str(metadata.distribution(name).locate_file("")))
    return os.pathsep.join(place for place in dict.fromkeys(places) if place not in site.getsitepackages())


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


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """The kind of machine: system, processor architecture, cores, and the accelerator if there is one."""
    kind: dict[str, Any] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": cores(),
        "python": platform.python_version(),
    }
    if shutil.which("nvidia-smi"):
        names = answer("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or ""
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
