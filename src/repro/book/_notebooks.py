"""A notebook file as plain JSON, read without the weight of the notebook tools; an executed one made fit to keep."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from repro.book._files import readable
from repro.book.errors import BadInput

LEDGER = "application/vnd.repro.ledger+json"
DATA = "application/vnd.repro.data+json"

# lines that the kernel's machinery writes into a notebook's standard error
_NOISE = re.compile(
    "Kernel is running over TCP without encryption|Use IPC transport or launch with kernel manager-provisioned|"
    "CurveZMQ keys to enable transport encryption|Debugger warning: It seems that frozen modules|"
    "make the debugger miss breakpoints|to python to disable frozen modules|"
    r"Debugging will proceed\. Set PYDEVD_DISABLE|^\[IPKernelApp\]|resource_tracker: There appear to be"
)


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook file as plain JSON; raises ``BadInput`` when it is not one."""
    with readable(path, "a notebook"):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise BadInput(f"{path.name} is not a notebook: it holds no list of cells")
    return content


def source_of(cell: Mapping[str, Any]) -> str:
    """A cell's text; the format allows a string or a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def code_cells(notebook: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The code cells, in order."""
    return (cell for cell in notebook["cells"] if cell.get("cell_type") == "code")


def clean(notebook: Mapping[str, Any]) -> None:
    """Take out the warnings that the tools leave behind. Changes the notebook in place."""
    for cell in code_cells(notebook):
        outputs = cell.get("outputs", [])
        for output in outputs:
            if output.get("name") == "stderr":
                lines = "".join(output["text"]).splitlines(keepends=True)
                output["text"] = "".join(line for line in lines if not _NOISE.search(line))
        cell["outputs"] = [out for out in outputs if out.get("name") != "stderr" or out["text"].strip()]


def laid_over(source: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The notebook as its source is now, with what a run of the same code left: outputs, counts, where it comes from.

    Prose, tags and attachments are the source's. The cell that sets the parameters follows the one that declares them.
    """
    left, cells = iter(deepcopy(list(code_cells(run)))), []
    for cell in deepcopy(source["cells"]):
        cells.append(cell)
        if cell.get("cell_type") != "code":
            continue
        done = next(left)
        cell |= {name: done[name] for name in ("outputs", "execution_count")}
        if "parameters" in cell["metadata"].get("tags", []):
            cells.append(next(left))
    about = {name: run["metadata"][name] for name in ("language_info", "repro") if name in run["metadata"]}
    return {**source, "metadata": {**source.get("metadata", {}), **about}, "cells": cells}


def displayed(notebook: Mapping[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    """What was displayed of one media type, in order: the forms of each by media type."""
    for cell in code_cells(notebook):
        for output in cell.get("outputs", []):
            if kind in output.get("data", {}):
                yield output["data"]


def ledger_shown(notebook: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ledger that the notebook showed last: {"chapter", "profile", "measurements", "not_tested"}; or None."""
    shown = list(displayed(notebook, LEDGER))
    return shown[-1][LEDGER] if shown else None


def data_shown(notebook: Mapping[str, Any]) -> dict[str, str]:
    """Checksums of the data sets that the notebook said it used, by name."""
    return dict(sorted(each for data in displayed(notebook, DATA) for each in data[DATA].items()))


def heading_of(notebook: Mapping[str, Any], index: int) -> str:
    """The text of the last heading before a cell, to say where in the chapter it stands; may be empty."""
    for cell in reversed(notebook["cells"][:index]):
        if cell.get("cell_type") == "markdown":
            titles = re.findall(r"^#{1,6}\s+(.+?)\s*$", source_of(cell), re.MULTILINE)
            if titles:
                return str(titles[-1])
    return ""


def mark_failure(notebook: dict[str, Any], index: int | None, message: str) -> None:
    """Add the reason of the failure to the cell that was at work, as an error output, unless one shows an error."""
    cells = list(code_cells(notebook))
    shown = [output.get("output_type") for cell in cells for output in cell.get("outputs", [])]
    for at in [] if "error" in shown else cells[:1] if index is None else [notebook["cells"][index]]:
        error = {"output_type": "error", "ename": "RunFailed", "evalue": message, "traceback": [message]}
        at.setdefault("outputs", []).append(error)
