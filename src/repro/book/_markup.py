"""Markdown as HTML and as prose, and the small pieces of which pages and tables are made."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import Any

from bs4 import BeautifulSoup
from jinja2 import Environment, PackageLoader
from markdown_it import MarkdownIt
from markupsafe import Markup
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_blocks import myst_block_plugin
from mdit_py_plugins.myst_role import myst_role_plugin

from repro.book.answers import WORDS

# --- a whole text -------------------------------------------------------------------------------------------------

_DIRECTIVE = re.compile(r"^\s*\{([\w:+-]+)\}\s*(.*)$", re.DOTALL)
_OPTIONS = re.compile(r"\A(?:---\n(?s:.*?)\n---\n|(?:\s*:[\w-]+:.*\n?)+)")
# directives whose content is not prose
_OPAQUE = {
    *("math", "code", "code-block", "code-cell", "sourcecode"),
    *("raw", "eval-rst", "bibliography", "toctree"),
}


def _fence(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """The title and the content of a directive; what other fences hold is code."""
    match = _DIRECTIVE.match(tokens[index].info)
    if match is None or match[1] in _OPAQUE:
        return "<pre></pre>\n"
    title, content = match[2].strip(), tokens[index].content
    if match[1] in ("figure", "image"):
        alt = re.search(r"^\s*:?alt:\s*(.*)$", content, re.MULTILINE)
        begin = f'<img src="{escape(title)}" alt="{escape(alt[1].strip()) if alt else ""}">\n'
    else:
        begin = _myst().render(title)
    return f"<div>\n{begin}{_myst().render(_OPTIONS.sub('', content))}</div>\n"


@cache
def _myst() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin).use(amsmath_plugin).use(colon_fence_plugin)
    parser.use(myst_block_plugin).use(myst_role_plugin)
    for kind in ("fence", "colon_fence"):
        parser.add_render_rule(kind, _fence)
    for kind in ("softbreak", "hardbreak"):
        parser.add_render_rule(kind, lambda *_: " ")
    return parser


def document(text: str) -> BeautifulSoup:
    """A page or cell of MyST Markdown as HTML, directives as sections of their own; it is read, never shown."""
    return BeautifulSoup(_myst().render(text), "html.parser")


def prose(text: str) -> list[str]:
    """What is read as text, a block each: no mathematics, code, roles and addresses, but the words for images."""
    page = document(text)
    for found in page.select("pre, code, kbd, samp, script, style, .math, .myst-target"):
        found.replace_with("\ufffc")  # a sign between its neighbours, which are not one word
    for image in page("img"):
        image.replace_with(f" {image.get('alt', '')} ")
    for link in page("a"):
        if link.get("href") == link.get_text():
            link.replace_with("\ufffc")
    return [block for block in page.get_text().split("\n") if block.strip()]


# --- one paragraph ------------------------------------------------------------------------------------------------


def _math_html(content: str, options: dict[str, Any]) -> str:
    # the plugin wraps this in <span class="math inline">, which MathJax reads in the book and in Jupyter
    opening, closing = (r"\[", r"\]") if options.get("display_mode") else (r"\(", r"\)")
    return f"{opening}{escape(content)}{closing}"


@cache
def _markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return parser.use(dollarmath_plugin, double_inline=True, renderer=_math_html)


def inline_html(text: str) -> str:
    """One paragraph of Markdown as HTML: emphasis, code and $mathematics$; HTML in it is escaped."""
    return str(_markdown().renderInline(" ".join(text.split())))


# --- pieces of tables ---------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """A number as the tables show it: three significant digits; ``None`` (infinite or unknown) as a dash."""
    if value is None:
        return "–"
    mantissa, e, exponent = f"{value:.3g}".partition("e")
    return (mantissa + (f"e{int(exponent)}" if e else "")).replace("-", "−")


# --- claims and templates -----------------------------------------------------------------------------------------


def anchor(claim: str) -> str:
    """The id of a claim's row on its chapter's page."""
    return f"claim-{claim.lower()}"


def _one_line(html: str) -> Markup:
    """HTML on one line, as a blank one would end it for Markdown, and the end of that line."""
    return Markup(" ".join(line.strip() for line in html.splitlines() if line.strip()) + "\n")


@cache
def _templates() -> Environment:
    found = Environment(loader=PackageLoader("repro.book"), autoescape=True, trim_blocks=True)
    plain = MarkdownIt("commonmark").enable("table")
    found.filters |= {
        "lines": lambda text: Markup(escape(text).replace("\n", "&#10;")),
        "number": number,
        "inline": lambda text: Markup(inline_html(text)),
        "markdown": lambda text: Markup(plain.render(text)),
        "one_line": _one_line,
        "g": "{:g}".format,
    }
    found.globals |= {"anchor": anchor, "signs": WORDS}
    return found


def rendered(template: str, **given: Any) -> Markup:
    """A template of this package filled in."""
    return Markup(_templates().get_template(template).render(given))
