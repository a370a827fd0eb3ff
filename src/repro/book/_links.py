"""Links that nobody writes by hand: words of the glossary, and names of the library in chapters and back.

Sphinx calls this (see ``sphinx_ext``) once all pages are read.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from docutils import nodes  # type: ignore[import-untyped]
from sphinx import addnodes
from sphinx.application import Sphinx

_GLOSSARY, _CHAPTERS = "book/glossary", "book/chapters/"


class Links:
    """What is linked to what, gathered from all pages before they are written."""

    def __init__(self) -> None:
        self.terms: dict[str, tuple[str, str]] = {}  # a word in lower case: its anchor and what it means
        self.names: dict[str, dict[str, str]] = {}  # by chapter, as its code writes them: the library's names
        # by the library's name, by chapter: anchor and title of the section that uses it first
        self.uses = defaultdict[str, dict[str, tuple[str, str]]](dict)

    def gather(self, app: Sphinx) -> None:
        """Read the glossary and the code of all chapters."""
        pages, documented = app.env.found_docs, app.env.domaindata["py"]["objects"]
        glossary = app.env.get_doctree(_GLOSSARY) if _GLOSSARY in pages else nodes.Element()
        for item in glossary.findall(nodes.definition_list_item):
            means = next(item.findall(nodes.paragraph)).astext().replace("\n", " ")
            for term in item.findall(nodes.term):
                self.terms[term.astext().lower()] = (term["ids"][0], means)
        for page in sorted(page for page in pages if page.startswith(_CHAPTERS)):
            names = self.names[page] = {}
            for written, name, block in _names(app.env.get_doctree(page)):
                # what a package passes on is documented there
                known = name if name in documented else re.sub(r"\.\w+(\.\w+)$", r"\1", name)
                if known in documented and documented[known].objtype != "module":
                    names[written] = known
                    self.uses[known].setdefault(page, _section(block))

    def place(self, app: Sphinx, doctree: nodes.document, page: str) -> None:
        """Put the links into a page: words of the glossary into chapters, chapters into the library's pages."""
        uri_to, left = partial(app.builder.get_relative_uri, page), dict(self.terms)
        texts = doctree.findall(nodes.Text) if left and page.startswith(_CHAPTERS) else ()
        for text in list(texts):
            if isinstance(text.parent, nodes.paragraph | nodes.strong | nodes.emphasis):
                text.parent.replace(text, list(_explained(text, left, uri_to(_GLOSSARY))))
        for signature in doctree.findall(addnodes.desc_signature):
            line = nodes.paragraph("", classes=["used-in"])
            for chapter, (anchor, title) in self.uses.get(" ".join(signature["ids"]), {}).items():
                name = app.env.titles[chapter].astext().partition(":")[0]
                line += [nodes.Text("; " if len(line) else "In the book: ")]
                line += [_link(f"{name}, {title}", f"{uri_to(chapter)}#{anchor}")]
            signature.parent[-1] += [line] if len(line) else []

    def in_code(self, app: Sphinx, page: str, template: str, context: dict[str, Any], tree: object) -> None:
        """Link the library's names in the code of a chapter to their pages."""
        links = {}
        for written, name in self.names.get(page, {}).items():
            there = app.env.domaindata["py"]["objects"][name]
            uri = f"{app.builder.get_relative_uri(page, there.docname)}#{there.node_id}"
            spans = re.sub(r"(\w+)", r'<span class="n">\1</span>', written)
            spans = spans.replace(".", '<span class="o">.</span>')
            links[spans] = f'<a class="api" href="{uri}">{spans}</a>'
        if links:  # a class and its method at once, the longer first: no link stands in another
            longest_first = "|".join(map(re.escape, sorted(links, key=len, reverse=True)))
            alone = rf'(?<!<span class="o">\.</span>)(?:{longest_first})'
            context["body"] = re.sub(alone, lambda match: links[match[0]], context["body"])


def _names(doctree: nodes.document) -> Iterator[tuple[str, str, nodes.literal_block]]:
    """The names that code cells take from the library: as written, in full, and the block of code."""
    imported: dict[str, str] = {}
    for block in doctree.findall(nodes.literal_block):
        with suppress(SyntaxError):
            for node in ast.walk(ast.parse(block.astext())):
                if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("repro."):
                    imported |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
                elif isinstance(node, ast.Name | ast.Attribute):
                    first, dot, rest = ast.unparse(node).partition(".")
                    if first in imported:
                        yield first + dot + rest, imported[first] + dot + rest, block


def _section(node: nodes.Node) -> tuple[str, str]:
    """Anchor and title of the section in which a node stands; a solution of an exercise is one without a title."""
    while not (isinstance(node, nodes.section) and isinstance(node[0], nodes.title)):
        node = node.parent
    return node["ids"][0], node[0].astext()


def _link(text: str, uri: str, **how: Any) -> nodes.reference:
    return nodes.reference("", text, refuri=uri, internal=True, **how)


def _explained(text: nodes.Text, left: dict[str, tuple[str, str]], uri: str) -> Iterator[nodes.Node]:
    """A text in which words that are ``left`` are links that show what they mean; those are taken out."""
    words = "|".join(map(re.escape, sorted(left, key=len, reverse=True)))  # the longest first
    before = 0
    for match in re.finditer(rf"\b({words})s?\b", text.astext(), re.IGNORECASE) if words else ():
        if found := left.get(match[1].lower()):
            for other in [word for word in left if left[word][1] == found[1]]:
                del left[other]
            yield nodes.Text(text.astext()[before : match.start()])
            yield _link(match[0], f"{uri}#{found[0]}", reftitle=found[1], classes=["explained"])
            before = match.end()
    yield nodes.Text(text.astext()[before:])
