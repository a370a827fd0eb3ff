"""Where a result comes from: commit, library, notebook, parameters, data, versions. No host names, no paths."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["commit_of", "machine"]


def _git(root: Path, *arguments: str) -> str | None:
    """What git answers in this folder; None where there is no git or no repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def commit_of(root: Path, files: Sequence[Path]) -> dict[str, Any]:
    """The commit that is checked out, and whether any of the files that matter differs from it.

    Returns {"commit": hash or None, "dirty": bool or None}; None: the book is not in a git repository.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}
    inside = [str(path) for path in files if path.resolve().is_relative_to(root.resolve())]
    changed = _git(root, "status", "--porcelain", "--untracked-files=all", "--ignored", "--", *inside)
    return {"commit": commit, "dirty": None if changed is None else bool(changed)}


def machine() -> dict[str, Any]:
    """The kind of machine: system, processor architecture, cores, and the accelerator if there is one."""
    kind: dict[str, Any] = {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
    }
    if shutil.which("nvidia-smi"):
        try:
            names = subprocess.run(
                ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            ).stdout.splitlines()
            kind["accelerators"] = [name.strip() for name in names if name.strip()]
        except (OSError, subprocess.SubprocessError):
            kind["accelerators"] = []
    return kind
