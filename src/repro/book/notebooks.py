"""Notebook files as plain JSON, read without the weight of the notebook tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repro.book.errors import BadInput

__all__ = ["read_notebook", "source_of"]


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook file as plain JSON; raises ``BadInput`` when it is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} is not a notebook: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise BadInput(f"{path.name} is not a notebook: it holds no list of cells")
    return content


def source_of(cell: Mapping[str, Any]) -> str:
    """A cell's text; the format allows a string or a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)
