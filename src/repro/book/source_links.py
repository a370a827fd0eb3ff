"""Links from a page to the code behind it: repository address, commit, file and lines."""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml

__all__ = ["commit", "repository_url", "source_link"]


@cache
def repository_url(root: Path) -> str | None:
    """The repository's address as ``_config.yml`` gives it (``repository: url``), without a final slash."""
    try:
        content = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        url = content["repository"]["url"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    return str(url).rstrip("/") if url else None


@cache
def commit(root: Path) -> str | None:
    """The full hash of the commit that is checked out; None without git or a repository."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def source_link(function: Callable[..., object], root: Path) -> tuple[str, str | None]:
    """A function's full name and the address of its lines at the commit, or None where a part is unknown."""
    function = inspect.unwrap(function)
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__name__)}"
    url, at = repository_url(root), commit(root)
    try:
        path = Path(inspect.getsourcefile(function) or "").resolve()
        lines, first = inspect.getsourcelines(function)
        inside = path.relative_to(root.resolve())
    except (OSError, TypeError, ValueError):
        return name, None
    if url is None or at is None:
        return name, None
    return name, f"{url}/blob/{at}/{inside.as_posix()}#L{first}-L{first + len(lines) - 1}"
