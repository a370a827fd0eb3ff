"""Figures of the book: one theme, fixed colours, a caption, a text for those who cannot see it, and a source.

Every figure is a drawing without a background: on a white card where it stands alone, on the page's own paper
in the book, which turns its lightness round in dark mode.
"""

from __future__ import annotations

import base64
import inspect
import io
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from repro.book._environment import git, repository_url
from repro.book._markup import rendered
from repro.book.errors import BadInput, BookError
from repro.book.layout import Book

PALETTE: tuple[str, ...] = tuple(sns.color_palette("colorblind").as_hex())
"""The book's colours, which people with a colour vision deficiency can tell apart."""
_DPI = 100  # pixels of the page in an inch of a figure
_STYLE = {
    "figure.figsize": (7.0, 4.0),
    "figure.dpi": _DPI,
    "figure.facecolor": "white",
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.title_fontsize": 11,
    "lines.linewidth": 2,
    "font.family": "DejaVu Sans",
}
_page: dict[str, str | None] = {"chapter": None}  # what the figures of a page share


def theme(chapter: str | None = None) -> None:
    """Set the book's look for all figures that follow; ``chapter`` is named in the source of each."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=_STYLE)
    _page["chapter"] = chapter


def show(figure: Figure, *, caption: str, alt: str, source: Callable[..., object]) -> None:
    """Display a figure with its caption and source, and close it, so that it does not show a second time.

    ``caption`` is Markdown and may hold $mathematics$; ``alt`` says in words what one would see; ``source``
    is the library's function that computed what is drawn. Raises ``BadInput`` when one is missing.
    """
    from IPython.display import HTML, display

    try:
        display(HTML(_figure_html(figure, caption, alt, source)))
    finally:
        plt.close(figure)


def _figure_html(figure: Figure, caption: str, alt: str, source: Callable[..., object]) -> str:
    if not ((caption or "").strip() and (alt or "").strip() and callable(source)):
        told = "a caption, an alt that says what one would see, and as source a function of the library"
        raise BadInput(f"a figure needs {told}; got {caption!r}, {alt!r}, {source!r}")
    image, width, height = _drawing(figure)
    drawn = {"image": base64.b64encode(image).decode("ascii"), "width": width, "height": height}
    return rendered("figure.html", caption=caption, alt=alt, **drawn, **_source(source))


def _drawing(figure: Figure) -> tuple[bytes, int, int]:
    """A figure as an SVG of few bytes, always the same ones, with its width and height in the page's pixels."""
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "repro", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    svg = re.sub(r"(?s)<\?xml.*?\?>|<!.*?>|<metadata>.*?</metadata>", "", buffer.getvalue().decode())
    # places to a tenth of a point, and no space between tags
    svg = re.sub(r'(?<= d=")[^"]+', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]).replace(".0", ""), svg)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").strip()
    points = re.findall(r' (?:width|height)="([\d.]+)pt"', svg)
    width, height = (round(float(side) * _DPI / 72) for side in points)
    return svg.encode(), width, height


def _source(source: Callable[..., object]) -> dict[str, str | None]:
    """Where a figure comes from: chapter, function, the address of its lines, and commit."""
    function: Any = inspect.unwrap(source)
    found = _page | {"function": f"{function.__module__}.{function.__qualname__}"}
    with suppress(BookError, OSError, TypeError, ValueError):  # outside a book, or not a function in it
        root = Book.find().root
        found["commit"] = git(root, "rev-parse", "HEAD")
        path = Path(inspect.getsourcefile(function) or "").resolve().relative_to(root.resolve())
        lines, first = inspect.getsourcelines(function)
        if (url := repository_url(root)) and found["commit"]:
            place = f"{path.as_posix()}#L{first}-L{first + len(lines) - 1}"
            found["address"] = f"{url}/blob/{found['commit']}/{place}"
    return found
