"""Small pieces of Markdown, such as a claim's statement, made fit for HTML tables and for MyST pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_blocks import myst_block_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

__all__ = ["badge", "inline_html", "inline_myst", "list_table", "number", "parse", "plain"]

SYMBOLS = {
    "reproduced": "✓",
    "partly": "◐",
    "undecided": "?",
    "not reproduced": "✗",
    "not tested": "–",
}


def _math_html(content: str, options: dict[str, Any]) -> str:
    # the plugin wraps this in <span class="math inline">, which MathJax reads in the book and in Jupyter
    opening, closing = (r"\[", r"\]") if options.get("display_mode") else (r"\(", r"\)")
    return f"{opening}{escape(content)}{closing}"


@cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, double_inline=True, renderer=_math_html)
    return parser


@cache
def _myst() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for plugin in (
        dollarmath_plugin,
        amsmath_plugin,
        colon_fence_plugin,
        myst_block_plugin,
        myst_role_plugin,
    ):
        parser.use(plugin)
    return parser


def parse(text: str) -> list[Token]:
    """The tokens of a page or cell, read as MyST Markdown: mathematics, roles and colon fences are known."""
    return _myst().parse(text)


def inline_html(text: str) -> str:
    """One paragraph of Markdown as HTML: emphasis, code and $mathematics$; HTML in it is escaped."""
    return str(_markdown().renderInline(" ".join(text.split())))


def plain(text: str) -> str:
    """One paragraph of Markdown as plain text, mathematics as TeX; for the terminal."""
    tokens = _markdown().parseInline(" ".join(text.split()))[0].children or []
    return "".join(token.content if token.content else " " * (token.type == "softbreak") for token in tokens)


_SPLIT = re.compile(r"(\$[^$]+\$|`[^`]+`)")
_BLOCK_START = re.compile(r"^(?:[#>+*-]|\d+[.)](?=\s)|:::|\(.*\)=|%|\{)")


def inline_myst(text: str) -> str:
    """One paragraph of Markdown for a cell of a MyST table: on one line, and nothing in it ends the cell.

    Mathematics and code stay as they are; elsewhere ``<``, ``&`` and ``{`` are escaped, and so is a beginning
    that would start a list, a heading or a directive.
    """
    parts = _SPLIT.split(" ".join(text.split()))
    safe = "".join(
        part
        if index % 2
        else part.replace("&", "&amp;").replace("<", "&lt;").replace("{", "&#123;").replace("|", "&#124;")
        for index, part in enumerate(parts)
    )
    if _BLOCK_START.match(safe):
        return re.sub(r"^(\d+)([.)])", r"\1\\\2", safe) if safe[0].isdigit() else "\\" + safe
    return safe


def number(value: float | None) -> str:
    """A number as the tables show it: three significant digits; ``None`` (infinite or unknown) as a dash."""
    if value is None:
        return "–"
    text = f"{value:.3g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")


def badge(verdict: str) -> str:
    """A verdict as HTML: always its word, with a sign; colour only repeats what the word says."""
    name = escape(verdict)
    return (
        f'<span class="verdict verdict-{name.replace(" ", "-")}">'
        f'<span aria-hidden="true">{SYMBOLS.get(verdict, "")}</span> {name}</span>'
    )


def list_table(name: str, head: Sequence[str], rows: Iterable[Sequence[str]], widths: str = "auto") -> str:
    """A MyST table of class ``name``; a cell is one line of Markdown, or several that make a list."""
    lines = [
        "```{list-table}",
        ":header-rows: 1",
        ":stub-columns: 1",
        f":class: {name}",
        f":widths: {widths}",
        "",
    ]
    for row in [head, *rows]:
        for position, cell in enumerate(row):
            start = "* - " if position == 0 else "  - "
            lines.append((start + cell.replace("\n", "\n    ")).rstrip())
    return "\n".join([*lines, "```", ""])
