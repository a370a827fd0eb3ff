"""An executed notebook, made fit to keep: noise out, provenance in, its ledger read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from repro.book.errors import BadInput
from repro.book.notebooks import source_of

__all__ = ["clean", "data_shown", "heading_of", "laid_over", "ledger_shown", "mark_failure", "stopped_early"]

LEDGER = "application/vnd.repro.ledger+json"
DATA = "application/vnd.repro.data+json"

# lines that the kernel's machinery writes into a notebook's standard error
_NOISE = re.compile(
    r"Kernel is running over TCP without encryption|"
    r"Use IPC transport or launch with kernel manager-provisioned|"
    r"CurveZMQ keys to enable transport encryption|"
    r"Debugger warning: It seems that frozen modules|"
    r"make the debugger miss breakpoints|"
    r"to python to disable frozen modules|"
    r"Debugging will proceed\. Set PYDEVD_DISABLE|"
    r"^\[IPKernelApp\]|"
    r"resource_tracker: There appear to be"
)


def _code(notebook: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (cell for cell in notebook["cells"] if cell.get("cell_type") == "code")


def _quiet(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not _NOISE.search(line))


def clean(notebook: Mapping[str, Any]) -> None:
    """Take out what the tools leave behind: their warnings, timings and paths. Changes the notebook in place."""
    for part in (notebook, *notebook["cells"]):
        part.get("metadata", {}).pop("papermill", None)
    for cell in _code(notebook):
        outputs = cell.get("outputs", [])
        for output in outputs:
            if output.get("name") == "stderr":
                output["text"] = _quiet("".join(output["text"]))
        cell["outputs"] = [out for out in outputs if out.get("name") != "stderr" or out["text"].strip()]


def laid_over(
    source: Mapping[str, Any],
    run: Mapping[str, Any],
    show: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """The notebook as its source is now, with what a run of the same code left: outputs, counts, where it comes from.

    Prose, tags and attachments are the source's; so are the words of the ledgers, which ``show`` makes of their
    values, as ``claims.shown`` does. The cell that papermill injected gets the tag ``remove-cell``: the rendered
    page shows the settings instead.
    """
    left = deepcopy(list(_code(run)))

    def injected() -> Iterator[dict[str, Any]]:
        while left and _is_injected(left[0]):
            cell = left.pop(0) | {"metadata": {"tags": ["injected-parameters", "remove-cell"]}}
            if (
                source.get("nbformat_minor", 0) < 5
            ):  # the tools write a newer format, in which cells have names
                cell.pop("id", None)
            yield cell

    cells = [*injected()]
    for cell in deepcopy(source["cells"]):
        if _is_injected(cell):
            continue
        if cell.get("cell_type") == "code":
            cell |= {name: left[0][name] for name in ("outputs", "execution_count")}
            for output in left.pop(0)["outputs"]:
                if show is not None and LEDGER in output.get("data", {}):
                    output["data"] = show(output["data"][LEDGER])
        cells += [cell, *injected()]
    about = {name: run["metadata"][name] for name in ("language_info", "repro") if name in run["metadata"]}
    return {**source, "metadata": {**source.get("metadata", {}), **about}, "cells": cells}


def _is_injected(cell: Mapping[str, Any]) -> bool:
    return "injected-parameters" in cell.get("metadata", {}).get("tags", [])


def _shown(notebook: Mapping[str, Any], kind: str) -> Iterator[Any]:
    """Every output of one media type, in order."""
    for cell in _code(notebook):
        for output in cell.get("outputs", []):
            if kind in output.get("data", {}):
                yield output["data"][kind]


def ledger_shown(notebook: Mapping[str, Any]) -> dict[str, Any] | None:
    """The ledger that the notebook showed last: {"chapter", "profile", "measurements", "not_tested"}; or None."""
    last = None
    for found in _shown(notebook, LEDGER):
        if not (isinstance(found, dict) and "only" in found):  # a part of the table on the way
            last = found
    if last is not None and not isinstance(last, dict):
        raise BadInput(f"the ledger in the executed notebook is not a mapping but {type(last).__name__}")
    return last


def data_shown(notebook: Mapping[str, Any]) -> dict[str, str]:
    """Checksums of the data sets that the notebook said it used, by name."""
    found: dict[str, str] = {}
    for entry in _shown(notebook, DATA):
        sets = entry if isinstance(entry, list) else [entry]
        for item in sets:
            if isinstance(item, dict) and "name" in item and "checksum" in item:
                found[str(item["name"])] = str(item["checksum"])
            elif isinstance(item, dict):
                found.update({str(name): str(checksum) for name, checksum in item.items()})
    return dict(sorted(found.items()))


def heading_of(notebook: Mapping[str, Any], index: int) -> str:
    """The text of the last heading before a cell, to say where in the chapter it stands; may be empty."""
    for cell in reversed(notebook["cells"][:index]):
        if cell.get("cell_type") == "markdown":
            titles = re.findall(r"^#{1,6}\s+(.+?)\s*$", source_of(cell), re.MULTILINE)
            if titles:
                return str(titles[-1])
    return ""


def stopped_early(notebook: Mapping[str, Any]) -> int | None:
    """Index of the first code cell that never ran (a cell called ``sys.exit``, which papermill takes as success)."""
    for index, cell in enumerate(notebook["cells"]):
        if (
            cell.get("cell_type") == "code"
            and source_of(cell).strip()
            and cell.get("execution_count") is None
        ):
            return index
    return None


def mark_failure(notebook: dict[str, Any], index: int | None, message: str) -> None:
    """Add the reason of the failure to the cell that was at work, as an error output, unless it shows one."""
    cells = notebook["cells"]
    if any(
        output.get("output_type") == "error" for cell in _code(notebook) for output in cell.get("outputs", [])
    ):
        return
    at = cells[index] if index is not None and index < len(cells) else next(_code(notebook), None)
    if at is not None and at.get("cell_type") == "code":
        at.setdefault("outputs", []).append(
            {"output_type": "error", "ename": "RunFailed", "evalue": message, "traceback": [message]}
        )
