"""Executed notebooks kept by content: a run is repeated only when something it depends on has changed.

The key covers the notebook's code, the resolved parameters, what of the claims decides a verdict, the part of the
library that the notebook imports, the versions of the packages that matter, the settings of the machine that reach a
run, and the files that it may read. Prose, words of claims, and how a page shows a cell are none of it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from repro.book import fingerprint
from repro.book.claim_models import ChapterClaims
from repro.book.environment import settings
from repro.book.files import sha256, system_errors
from repro.book.notebooks import source_of

__all__ = ["Cache", "key_parts", "run_key"]

_NOTEBOOK, _CHECKSUM = "notebook.ipynb", "sha256"


def key_parts(
    notebook: Mapping[str, Any],
    values: Mapping[str, object],
    claims: ChapterClaims | None,
    files: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that a run depends on, as hashes and plain values; what the result's provenance quotes.

    ``files`` are the checksums of what it may read, by name.
    """
    sources = [source_of(cell) for cell in notebook["cells"] if cell.get("cell_type") == "code"]
    return {
        "code": fingerprint.code_hash(notebook),
        "parameters": dict(values),
        "claims": None if claims is None else run_key(claims.deciding()),
        "library": fingerprint.library(sources),
        "versions": fingerprint.versions(),
        "settings": settings(),
        "files": dict(files),
    }


def run_key(parts: Mapping[str, Any]) -> str:
    """One hash of these parts."""
    return sha256(json.dumps(parts, sort_keys=True, ensure_ascii=True).encode())


class Cache:
    """Executed notebooks under ``folder/KEY/``, each with its checksum."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> bytes | None:
        """The executed notebook of a run, or None: never kept, or damaged (then the entry goes)."""
        entry = self.folder / key
        try:
            content = (entry / _NOTEBOOK).read_bytes()
            if (entry / _CHECKSUM).read_text(encoding="ascii") == sha256(content):
                return content
        except (OSError, UnicodeDecodeError):
            pass
        shutil.rmtree(entry, ignore_errors=True)
        return None

    def put(self, key: str, content: bytes) -> None:
        """Keep an executed notebook; the entry appears whole or not at all."""
        with system_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
            try:
                (fresh / _NOTEBOOK).write_bytes(content)
                (fresh / _CHECKSUM).write_text(sha256(content), encoding="ascii")
                shutil.rmtree(self.folder / key, ignore_errors=True)
                # another process may have put the same run there in the meantime: then theirs is as good
                with suppress(FileExistsError):
                    os.replace(fresh, self.folder / key)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
