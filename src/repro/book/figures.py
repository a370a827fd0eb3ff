"""Figures of the book: one theme, fixed colours, a caption, a text for those who cannot see it, and a source.

Every figure is a PNG of twice the screen's resolution on a white card, so that it reads the same in light
and in dark mode and on a phone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from repro.book.errors import BadInput, BookError
from repro.book.layout import Book
from repro.book.markup import inline_html
from repro.book.source_links import commit, source_link

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PALETTE", "png", "show", "theme"]

PALETTE: tuple[str, ...] = tuple(sns.color_palette("colorblind").as_hex())
"""The book's colours, which people with a colour vision deficiency can tell apart."""
DPI = 100
SCALE = 2


@dataclass
class _Page:
    """What the figures of a page share: the chapter, for the line that names their source."""

    chapter: str | None = None


_page = _Page()


def theme(chapter: str | None = None) -> None:
    """Set the book's look for all figures that follow; ``chapter`` is named in the source of each."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette="colorblind",
        rc={
            "figure.figsize": (7.0, 4.0),
            "figure.dpi": DPI,
            "figure.facecolor": "white",
            "axes.titlesize": 13,
            "axes.labelsize": 13,
            "xtick.labelsize": 12,
            "ytick.labelsize": 12,
            "legend.fontsize": 12,
            "legend.title_fontsize": 11,
            "lines.linewidth": 2,
            "font.family": "DejaVu Sans",
            "svg.hashsalt": "repro",
        },
    )
    _page.chapter = chapter


def png(figure: Figure) -> bytes:
    """The figure as PNG at twice the screen's resolution; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format="png",
        dpi=DPI * SCALE,
        bbox_inches="tight",
        facecolor="white",
        metadata={"Software": None},  # its version would change the bytes
    )
    return buffer.getvalue()


def _width(image: bytes) -> int:
    """The width of a PNG on the screen, in CSS pixels: bytes 16 to 19 hold the width in dots."""
    return round(int.from_bytes(image[16:20], "big") / SCALE)


def _source(source: Callable[..., object] | str, root: Path | None) -> str:
    """The line that says where a figure comes from: chapter, function (linked), commit."""
    if callable(source) and root is not None:
        name, address = source_link(source, root)
    else:
        name, address = (
            (f"{source.__module__}.{source.__qualname__}" if callable(source) else str(source)),
            None,
        )
    code = f"<code>{escape(name)}</code>"
    at = commit(root) if root is not None else None
    parts = [
        f"chapter {escape(_page.chapter)}" if _page.chapter else "",
        f'<a href="{escape(address)}">{code}</a>' if address else code,
        f"commit <code>{at[:10]}</code>" if at else "",
    ]
    return "Source: " + ", ".join(part for part in parts if part)


def figure_html(figure: Figure, *, caption: str, alt: str, source: Callable[..., object] | str) -> str:
    """The HTML that ``show`` displays."""
    for name, text in (("caption", caption), ("alt", alt)):
        if not isinstance(text, str) or not text.strip():
            what = "what the figure shows" if name == "caption" else "what one would see, in words"
            raise BadInput(f"a figure needs {name}: {what}; got {text!r}")
    if not callable(source) and not (isinstance(source, str) and source.strip()):
        raise BadInput(
            f"a figure needs source: the library function that computed it, or its name; got {source!r}"
        )
    try:
        root: Path | None = Book.find().root
    except BookError:
        root = None  # a notebook opened outside the book still shows its figures
    image = png(figure)
    data = base64.b64encode(image).decode("ascii")
    told = escape(" ".join(alt.split()))
    return (
        '<figure class="repro-figure" style="margin:1.5em 0">'
        f'<img src="data:image/png;base64,{data}" alt="{told}" width="{_width(image)}" '
        'style="background:#fff;max-width:100%;height:auto;padding:0.5em;border-radius:6px;'
        'box-sizing:border-box">'
        f"<figcaption>{inline_html(caption)} <small>{_source(source, root)}</small></figcaption></figure>"
    )


def show(figure: Figure, *, caption: str, alt: str, source: Callable[..., object] | str) -> None:
    """Display a figure with its caption and source, and close it, so that it does not show a second time.

    ``caption`` is Markdown and may hold $mathematics$; ``alt`` says in words what one would see; ``source``
    is the library function that computed what is drawn (or its name). Raises ``BadInput`` when one is empty.
    """
    from IPython.display import HTML, display

    try:
        display(HTML(figure_html(figure, caption=caption, alt=alt, source=source)))
    finally:
        plt.close(figure)
