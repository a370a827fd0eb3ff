"""Links from a page to the code behind it: repository address, commit, file and lines."""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml

__all__ = ["commit", "name_of", "repository_url", "source_link"]


@cache
def repository_url(root: Path) -> str | None:
    """The repository's address as ``_config.yml`` gives it (``repository: url``), without a final slash."""
    try:
        content = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        return str(content["repository"]["url"]).rstrip("/")
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None


@cache
def commit(root: Path) -> str | None:
    """The full hash of the commit that is checked out; None without git or a repository."""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def name_of(function: Callable[..., object]) -> str:
    """A function's full name."""
    function = inspect.unwrap(function)
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"


def source_link(function: Callable[..., object], root: Path) -> str | None:
    """The address of a function's lines at the commit; None where a part of it is unknown."""
    function, url, at = inspect.unwrap(function), repository_url(root), commit(root)
    try:
        path = Path(inspect.getsourcefile(function) or "").resolve().relative_to(root.resolve())
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError, ValueError):
        return None
    if url is None or at is None:
        return None
    return f"{url}/blob/{at}/{path.as_posix()}#L{first}-L{first + len(lines) - 1}"
