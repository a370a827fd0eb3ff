"""Figures of the book: one theme, fixed colours, a caption, a text for those who cannot see it, and a source.

Every figure is a PNG of twice the screen's resolution on a white card, so that it reads the same in light
and in dark mode and on a phone.
"""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Callable
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

from repro.book._environment import git, repository_url
from repro.book._markup import inline_html
from repro.book.errors import BadInput, BookError
from repro.book.layout import Book

PALETTE: tuple[str, ...] = tuple(sns.color_palette("colorblind").as_hex())
"""The book's colours, which people with a colour vision deficiency can tell apart."""
_DPI = 100
_SCALE = 2
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
    "svg.hashsalt": "repro",
}
_page: dict[str, str | None] = {"chapter": None}  # what the figures of a page share


def theme(chapter: str | None = None) -> None:
    """Set the book's look for all figures that follow; ``chapter`` is named in the source of each."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind", rc=_STYLE)
    _page["chapter"] = chapter


def show(figure: Figure, *, caption: str, alt: str, source: Callable[..., object] | str) -> None:
    """Display a figure with its caption and source, and close it, so that it does not show a second time.

    ``caption`` is Markdown and may hold $mathematics$; ``alt`` says in words what one would see; ``source``
    is the library function that computed what is drawn (or its name). Raises ``BadInput`` when one is empty.
    """
    from IPython.display import HTML, display

    try:
        display(HTML(_figure_html(figure, caption, alt, source)))
    finally:
        plt.close(figure)


def _figure_html(figure: Figure, caption: str, alt: str, source: Callable[..., object] | str) -> str:
    for name, text in (("caption", caption), ("alt", alt), ("source", source)):
        if not (callable(text) or (isinstance(text, str) and text.strip())):
            told = "a caption, an alt that says what one would see, and as source a function of the library"
            raise BadInput(f"a figure needs {told}; {name} is {text!r}")
    buffer = io.BytesIO()
    unsigned = {"Software": None}  # its version would change the bytes
    figure.savefig(buffer, dpi=_DPI * _SCALE, bbox_inches="tight", facecolor="white", metadata=unsigned)
    image = buffer.getvalue()
    width = round(int.from_bytes(image[16:20], "big") / _SCALE)  # a PNG's bytes 16 to 19: its width in dots
    return (
        '<figure class="repro-figure" style="margin:1.5em 0">'
        f'<img src="data:image/png;base64,{base64.b64encode(image).decode("ascii")}" '
        f'alt="{escape(" ".join(alt.split()))}" width="{width}" '
        'style="background:#fff;max-width:100%;height:auto;padding:0.5em;border-radius:6px;'
        'box-sizing:border-box">'
        f"<figcaption>{inline_html(caption)} <small>{_source(source)}</small></figcaption></figure>"
    )


def _source(source: Callable[..., object] | str) -> str:
    """The line that says where a figure comes from: chapter, function, linked to its lines, and commit."""
    function: Any = source if isinstance(source, str) else inspect.unwrap(source)
    module, qualname = getattr(function, "__module__", ""), getattr(function, "__qualname__", str(function))
    name = f"{module}.{qualname}".lstrip(".")
    code, parts = f"<code>{escape(name)}</code>", [f"chapter {escape(_page['chapter'] or '')}"]
    with suppress(BookError, OSError, TypeError, ValueError):  # outside a book, or not a function in it
        root = Book.find().root
        if commit := git(root, "rev-parse", "HEAD"):
            parts.append(f"commit <code>{commit[:10]}</code>")
            path = Path(inspect.getsourcefile(function) or "").resolve().relative_to(root.resolve())
            lines, first = inspect.getsourcelines(function)
            if url := repository_url(root):
                place = f"{url}/blob/{commit}/{path.as_posix()}#L{first}-L{first + len(lines) - 1}"
                code = f'<a href="{escape(place)}">{code}</a>'
    parts.insert(1, code)
    return "Source: " + ", ".join(parts if _page["chapter"] else parts[1:])
