"""The report of a sweep: the book's page on sweeps, run over the table of one folder."""

from __future__ import annotations

from pathlib import Path

from repro.book import runner
from repro.book.errors import BadInput
from repro.book.files import shown, write_atomically
from repro.book.layout import Book
from repro.book.notebooks import read_notebook
from repro.book.plain_html import to_html

__all__ = ["PAGE", "make"]

PAGE = "book/sweep-report"
"""The page, as in the table of contents."""


def make(folder: Path, book: Book | None = None, *, color: str = "", columns: str = "") -> Path:
    """Write ``report.ipynb`` and ``report.html`` into a sweep's folder; returns the path of the second.

    Args:
        folder: holds ``table.parquet`` or ``table.csv``.
        book: whose page is run (default: the book that is found from here).
        color: the parameter that gives a run its color; the page chooses one by itself.
        columns: the results to draw, ``CLAIM.TEST`` with commas between; the page chooses them by itself.

    Raises:
        BadInput: no table there, not the table of a sweep, unknown names; nothing has run.
        RunFailed: the page failed; the attempt is kept in the folder.
    """
    from repro.book.sweep import report_table

    book = book or Book.find()
    tables = [folder / name for name in ("table.parquet", "table.csv") if (folder / name).is_file()]
    if not tables:
        raise BadInput(
            f"{shown(folder)} holds no table.parquet or table.csv: a sweep writes them when it ends"
        )
    table = tables[0].resolve()
    sweep = report_table.read(table, color=color, columns=columns)
    given = {"table": str(table), "color": color, "columns": columns}
    run = runner.run_page(book, PAGE, given, output=folder / "report.ipynb", use_cache=False)
    title = f"Sweep of {sweep.chapter}" if sweep.chapter else "Sweep"
    write_atomically(folder / "report.html", to_html(read_notebook(run.notebook), title))
    return folder / "report.html"
