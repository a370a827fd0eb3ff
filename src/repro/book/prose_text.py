"""The prose of a Markdown text: what a reader reads as text, without mathematics, code and addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser

from markdown_it.token import Token

from repro.book.markup import parse

__all__ = ["blocks_of", "directives", "images"]

# directives whose content is not prose
_OPAQUE = {
    "math",
    "code",
    "code-block",
    "code-cell",
    "sourcecode",
    "raw",
    "eval-rst",
    "bibliography",
    "toctree",
}
_DIRECTIVE = re.compile(r"^\s*\{([\w:+-]+)\}\s*(.*)$", re.DOTALL)
_SKIPPED = {"code_inline", "math_inline", "math_inline_double", "math_single", "myst_role"}


def directives(tokens: Sequence[Token]) -> Iterator[tuple[str, str, str]]:
    """Name, argument and content of every directive at this level, in either kind of fence."""
    for token in tokens:
        if token.type in ("fence", "colon_fence") and (match := _DIRECTIVE.match(token.info)):
            yield match.group(1), match.group(2).strip(), token.content


def _without_options(content: str) -> str:
    content = re.sub(r"\A---\n.*?\n---\n", "", content, flags=re.DOTALL)
    return re.sub(r"\A(?:\s*:[\w-]+:.*\n?)+", "", content)


class _Html(HTMLParser):
    """The text of a piece of HTML, and its images."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.images: list[tuple[str, str]] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style", "code", "pre"):
            self._silent += 1
        if tag == "img":
            given = dict(attrs)
            self.images.append((given.get("src") or "", given.get("alt") or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style", "code", "pre"):
            self._silent = max(0, self._silent - 1)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def _html(text: str) -> _Html:
    reader = _Html()
    reader.feed(text)
    reader.close()
    return reader


def _inline(children: Sequence[Token]) -> str:
    """The text of a paragraph; what is not prose leaves a mark between its neighbours."""
    parts: list[str] = []
    address, code = False, 0
    for token in children:
        if token.type == "html_inline" and (tag := re.match(r"<(/?)(?:code|kbd|samp)\b", token.content)):
            code += -1 if tag.group(1) else 1
            parts.append("\ufffc")
        elif token.type == "link_open":
            address = token.info == "auto"
        elif token.type == "link_close":
            address = False
        elif token.type in ("softbreak", "hardbreak"):
            parts.append(" ")
        elif token.type in _SKIPPED:
            parts.append("\ufffc")
        elif token.type == "image":
            parts.append(f" {token.content} ")
        elif token.type == "text" and not address and code <= 0:
            parts.append(token.content)
    return "".join(parts)


def blocks_of(tokens: Sequence[Token]) -> Iterator[str]:
    """The prose of each block: paragraphs, headings, table cells, and what stands in admonitions."""
    for token in tokens:
        if token.type == "inline":
            yield _inline(token.children or [])
        elif token.type == "html_block":
            yield " ".join(_html(token.content).text)
    for name, argument, content in directives(tokens):
        if name not in _OPAQUE:
            if name not in ("figure", "image"):
                yield from blocks_of(parse(argument))
            yield from blocks_of(parse(_without_options(content)))


def images(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Source and alternative text (may be empty) of every image: Markdown, HTML, and directives."""
    for token in tokens:
        for child in token.children or []:
            if child.type == "image":
                yield str(child.attrs.get("src", "")), child.content
        if token.type == "html_block":
            yield from _html(token.content).images
        if token.type == "inline":
            text = "".join(child.content for child in token.children or [] if child.type == "html_inline")
            yield from _html(text).images
    for name, argument, content in directives(tokens):
        if name in ("figure", "image"):
            alt = re.search(r"^\s*:?alt:\s*(.*)$", content, re.MULTILINE)
            yield argument, alt.group(1).strip() if alt else ""
        if name not in _OPAQUE:
            yield from images(parse(_without_options(content)))
