"""The status page: when each chapter ran, on what, with which versions, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repro.book.claim_models import load
from repro.book.claims import counts
from repro.book.layout import Book
from repro.book.markup import inline_myst, list_table
from repro.book.results import Results
from repro.book.source_links import repository_url

__all__ = ["NOTICE", "status"]

NOTICE = "% Made by `repro build` from book/claims and book/results. Changes made here are lost.\n"


def _against(used: Any, budget: float) -> str:
    return f"{used:.0f} of {budget:.0f}" if isinstance(used, int | float) else "–"


def _commit(provenance: Mapping[str, Any], url: str | None) -> str:
    """The short hash, linked where the repository's address is known."""
    held = provenance.get("commit")
    details = held if isinstance(held, Mapping) else {"commit": held, "dirty": provenance.get("dirty")}
    full = details.get("commit")
    if not full:
        return "–"
    short = f"`{str(full)[:10]}`"
    changed = " with local changes" if details.get("dirty") else ""
    return (f"[{short}]({url}/commit/{full})" if url else short) + changed


def _machine(machine: Any) -> str:
    if not isinstance(machine, Mapping):
        return inline_myst(str(machine)) if machine else "–"
    parts = [str(machine.get(key, "")) for key in ("system", "architecture")]
    parts.append(f"{machine['cores']} cores" if "cores" in machine else "")
    parts += [str(name) for name in machine.get("accelerators", [])]
    return inline_myst(", ".join(part for part in parts if part)) or "–"


def status(book: Book, results: Mapping[tuple[str, str], Results]) -> str:
    """The page that says when each chapter ran, on what, with which versions, and what it cost."""
    url = repository_url(book.root)
    rows: list[list[str]] = []
    for (chapter, profile), result in results.items():
        claims = load(book.claims_file(chapter))
        budget, run = claims.budget[result.profile], result.run
        told = ", ".join(f"{n} {verdict}" for verdict, n in counts(result.claims).items() if n)
        rows.append(
            [
                f"[{chapter}](chapters/{chapter}.ipynb)",
                profile,
                told,
                _against(run.get("seconds"), budget.seconds),
                _against(run.get("peak_memory_mb"), budget.memory_mb),
                _commit(result.provenance, url),
                inline_myst(str(run.get("finished") or "–")[:10]),
                _machine(run.get("machine")),
            ]
        )
    rows += [
        [f"[{c}](chapters/{c}.ipynb)", "–", "not run yet", *["–"] * 5]
        for c in book.chapters()
        if not any(chapter == c for chapter, _ in results)
    ]
    head = (
        "Chapter",
        "Profile",
        "Result",
        "Seconds, of budget",
        "Peak MB, of budget",
        "Commit",
        "Date",
        "Machine",
    )
    return "\n".join(
        [
            "# Status\n",
            NOTICE,
            "The last committed run of each chapter and profile that ended well, with its date. Seconds and "
            "memory stand beside what the profile allows.\n",
            list_table("run-status", head, rows),
            _versions(results),
        ]
    )


def _versions(results: Mapping[tuple[str, str], Results]) -> str:
    """Packages as rows, runs as columns."""
    held = {key: result.provenance.get("versions") or {} for key, result in results.items()}
    packages = sorted({package for versions in held.values() for package in versions})
    if not packages:
        return ""
    head = ("Package", *(f"{chapter}, {profile}" for chapter, profile in held))
    rows = [
        [f"`{package}`", *(str(versions.get(package, "–")) for versions in held.values())]
        for package in packages
    ]
    return "## Versions\n\n" + list_table("versions", head, rows)
