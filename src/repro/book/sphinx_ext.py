"""Sphinx extension of the book: mathematics in docstrings, links that nobody writes by hand, heads that can be shared.

Words of the glossary are linked in the chapters, and names of the library in chapters and back. What is done when all
pages are written stands in ``_finish``.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes  # type: ignore[import-untyped]
from joblib import cpu_count
from markupsafe import Markup
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

from repro.book._finish import finished
from repro.book._markup import rendered

_GLOSSARY, _CHAPTERS = "book/glossary", "book/chapters/"


def _docstring_mathematics(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Let docstrings write mathematics as the notebooks do, ``$...$`` and ``$$...$$``."""
    # literals between double backquotes stand at the odd places and are left alone
    pieces = re.split(r"(``.+?``)", "\n".join(lines), flags=re.DOTALL)
    for place in range(0, len(pieces), 2):
        text = re.sub(r"\$\$(.+?)\$\$", _displayed, pieces[place], flags=re.DOTALL)
        pieces[place] = re.sub(r"(\w?)\$([^$]+?)\$(\w?)", _inline, text)
    lines[:] = "".join(pieces).split("\n")


def _inline(match: re.Match[str]) -> str:
    before, formula, after = match.groups()
    role = f":math:`{' '.join(formula.split())}`"
    # a role ends at a space or a sign; beside a letter it needs an escaped space
    return (before + "\\ " if before else "") + role + ("\\ " + after if after else "")


def _displayed(match: re.Match[str]) -> str:
    return "\n\n.. math:: " + " ".join(match[1].split()) + "\n\n"


def _one_search_field(app: Sphinx, config: Config) -> None:
    """Keep the search field in the sidebar alone: the theme would add another in a bar of its own.

    ``_config.yml`` cannot say so: Jupyter Book writes the theme's options itself and would lose them.
    """
    config.html_theme_options.setdefault("navbar_persistent", [])


def _mathematics_in_html(app: Sphinx, doctree: nodes.document) -> None:
    """Have a page load MathJax for the formulas in its HTML too, which Sphinx does not see."""
    if any('class="math' in raw.astext() for raw in doctree.findall(nodes.raw)):
        app.env.get_domain("math").data["has_equations"][app.env.docname] = True


def _code_without_contents(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Leave the list of chapters out of the pages of source code, which are written only when the library changes."""
    if page.startswith("_modules/"):
        context["sidebars"] = [part for part in context["sidebars"] if "nav" not in part]


def _described(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Put into a page's head what search engines and cards show of it, and the way to the feed."""
    base, title = app.config.html_baseurl, Markup(context.get("title") or "Search").striptags()
    title = re.sub(r"^[\d.]+ ", "", title)  # a chapter's number
    told = _description(doctree) or f"{title}: {app.config.html_title}"
    about = {"page": page, "title": title, "description": told}
    # the page for what is not there stands at any depth
    root = urlsplit(base).path if page == "404" else ""
    head = str(rendered("head.html", base=base, root=root, **about))
    context["metatags"] = context.get("metatags", "") + head


def _description(doctree: object) -> str:
    """How a page's text begins: a sentence, or two short ones, without the commands of TeX."""
    found = next(doctree.findall(nodes.paragraph), None) if isinstance(doctree, nodes.document) else None
    text = re.sub(r"\\(\w+ ?|\W)", "", " ".join(found.astext().split())) if found else ""
    begin = re.match(r".{60,}?[.?](?=\s|$)", text)
    return begin[0] if begin else text


# --- links ----------------------------------------------------------------------------------------------------------


class _Links:
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


# --- the extension --------------------------------------------------------------------------------------------------

_links = _Links()


def _every_page(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Write all pages, however few have changed: each shows the titles of the others, and may refer to them.

    All cores write; reading is not safe in parallel for all extensions.
    """
    app.parallel = cpu_count()
    _links.gather(app)
    return sorted(env.all_docs)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension; Sphinx calls this."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("config-inited", _one_search_field)
    app.connect("autodoc-process-docstring", _docstring_mathematics, priority=400)
    app.connect("html-page-context", _code_without_contents, priority=400)
    app.connect("doctree-resolved", _links.place)
    app.connect("html-page-context", _links.in_code)
    app.connect("html-page-context", _described)
    app.connect("doctree-read", _mathematics_in_html)
    app.connect("build-finished", finished)
    app.connect("env-updated", _every_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
