"""Sphinx extension of the book: mathematics without a network, one search field, pages that load what they use.

Sphinx loads MathJax from a content delivery network by default. The package ``django-static-mathjax`` carries
the same files; this extension copies the few that a page needs beside the page. ``_config.yml`` points
``mathjax_path`` at the copy.
"""

from __future__ import annotations

import re
import shutil
from importlib.resources import as_file, files
from typing import Any

from docutils import nodes  # type: ignore[import-untyped]
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

from repro.book import _found, _light
from repro.book._environment import cores
from repro.book._links import Links

# the loader, the fonts, and the TeX commands that MathJax fetches when a formula first uses them
_MATHJAX_PARTS = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")

_links = Links()


def _copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the needed parts of MathJax into ``_static/mathjax`` of a finished HTML build."""
    if exception is not None or app.builder.format != "html":
        return
    target = app.outdir / "_static" / "mathjax"
    with as_file(files("mathjax") / "static" / "mathjax" / "es5") as source:
        for part in _MATHJAX_PARTS:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            if (source / part).is_dir():
                shutil.copytree(source / part, target / part, dirs_exist_ok=True)
            else:
                shutil.copy2(source / part, target / part)


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


def _every_page(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Write all pages, however few have changed: each shows the titles of the others, and may refer to them.

    All cores write; reading is not safe in parallel for all extensions.
    """
    app.parallel = cores()
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
    app.connect("html-page-context", _found.described)
    app.connect("build-finished", _found.beside_the_pages)
    app.connect("doctree-read", _mathematics_in_html)
    app.connect("build-finished", _copy_mathjax)
    app.connect("build-finished", _light.lightened)
    app.connect("env-updated", _every_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
