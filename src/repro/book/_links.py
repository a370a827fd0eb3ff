"""Links that nobody writes by hand: words of the glossary, and names of the library in chapters and back.

Sphinx calls this (see ``sphinx_ext``) once all pages are read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from docutils import nodes  # type: ignore[import-untyped]
from sphinx import addnodes
from sphinx.application import Sphinx

_GLOSSARY, _CHAPTERS = "book/glossary", "book/chapters/"
_Use = tuple[str, str, str]  # the chapter's page, the anchor and the title of a section


class Links:
    """What is linked to what, gathered from all pages before they are written."""

    def __init__(self) -> None:
        self.terms: dict[str, tuple[str, str]] = {}  # a word in lower case: its anchor and what it means
        self.names: dict[str, dict[str, str]] = {}  # by chapter, as its code writes them: the library's names
        self.uses: dict[
            str, dict[str, _Use]
        ] = {}  # by the library's name, by chapter: where it is used first

    def gather(self, app: Sphinx) -> None:
        """Read the glossary and the code of all chapters."""
        pages = app.env.found_docs
        items = (
            app.env.get_doctree(_GLOSSARY).findall(nodes.definition_list_item) if _GLOSSARY in pages else ()
        )
        for item in items:
            means = next(item.findall(nodes.paragraph)).astext().replace("\n", " ")
            self.terms |= {
                term.astext().lower(): (term["ids"][0], means) for term in item.findall(nodes.term)
            }
        documented = app.env.get_domain("py").objects  # type: ignore[attr-defined]
        for page in sorted(page for page in pages if page.startswith(_CHAPTERS)):
            names = self.names[page] = {}
            doctree = app.env.get_doctree(page)
            for written, name, block in _names(doctree):
                # what a package passes on is documented there
                for known in (name, re.sub(r"\.\w+(\.\w+)$", r"\1", name)):
                    if known in documented and documented[known].objtype != "module":
                        names[written] = known
                        section = _section(block)
                        use = (page, section["ids"][0], section[0].astext())
                        self.uses.setdefault(known, {}).setdefault(page, use)
                        break

    def place(self, app: Sphinx, doctree: nodes.document, page: str) -> None:
        """Put the links into a page: words of the glossary into chapters, chapters into the library's pages."""
        if page.startswith(_CHAPTERS):
            uri, left = app.builder.get_relative_uri(page, _GLOSSARY), dict(self.terms)
            for text in list(doctree.findall(nodes.Text)) if left else ():
                if isinstance(text.parent, nodes.paragraph | nodes.strong | nodes.emphasis):
                    text.parent.replace(text, list(_explained(text, left, uri)))
        for signature in doctree.findall(addnodes.desc_signature):
            if found := [use for name in signature["ids"] for use in self.uses.get(name, {}).values()]:
                line = nodes.paragraph("", "In the book: ", classes=["used-in"])
                for n, (chapter, anchor, title) in enumerate(found):
                    uri = f"{app.builder.get_relative_uri(page, chapter)}#{anchor}"
                    name = app.env.titles[chapter].astext().partition(":")[0]
                    line += [nodes.Text("; " * bool(n)), _link(f"{name}, {title}", uri)]
                signature.parent[-1].append(line)

    def in_code(
        self, app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
    ) -> None:
        """Link the library's names in the code of a chapter to their pages."""
        documented = app.env.get_domain("py").objects  # type: ignore[attr-defined]
        for written, name in self.names.get(page, {}).items():
            there = documented[name]
            uri = f"{app.builder.get_relative_uri(page, there.docname)}#{there.node_id}"
            spans = '<span class="o">.</span>'.join(
                f'<span class="n">{part}</span>' for part in written.split(".")
            )
            alone = rf'(?<!<span class="o">\.</span>){re.escape(spans)}'
            context["body"] = re.sub(alone, f'<a class="api" href="{uri}">{spans}</a>', context["body"])


def _names(doctree: nodes.document) -> Iterator[tuple[str, str, nodes.literal_block]]:
    """The names that code cells take from the library: as written, in full, and the block of code."""
    imported: dict[str, str] = {}
    for block in doctree.findall(nodes.literal_block):
        with suppress(SyntaxError):
            for node in ast.walk(ast.parse(block.astext())):
                if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("repro."):
                    imported |= {
                        each.asname or each.name: f"{node.module}.{each.name}" for each in node.names
                    }
                elif isinstance(node, ast.Name | ast.Attribute):
                    first, dot, rest = ast.unparse(node).partition(".")
                    if first in imported:
                        yield first + dot + rest, imported[first] + dot + rest, block


def _link(text: str, uri: str, **how: Any) -> nodes.reference:
    return nodes.reference("", text, refuri=uri, internal=True, **how)


def _section(node: nodes.Node) -> nodes.section:
    """The section with a title in which a node stands; a solution of an exercise is one without."""
    while not (isinstance(node, nodes.section) and isinstance(node[0], nodes.title)):
        node = node.parent
    return node


def _explained(text: nodes.Text, left: dict[str, tuple[str, str]], uri: str) -> Iterator[nodes.Node]:
    """A text in which words that are ``left`` are links that show what they mean; those are taken out."""
    longest_first = "|".join(map(re.escape, sorted(left, key=len, reverse=True)))
    done, said = 0, text.astext()
    for match in re.finditer(rf"\b({longest_first})s?\b", said, re.IGNORECASE) if left else ():
        if (word := match[1].lower()) not in left:
            continue
        anchor, means = left[word]
        for other in [each for each, (same, told) in left.items() if told == means]:
            del left[other]
        yield nodes.Text(said[done : match.start()])
        yield _link(match[0], f"{uri}#{anchor}", reftitle=means, classes=["explained"])
        done = match.end()
    yield nodes.Text(said[done:])
