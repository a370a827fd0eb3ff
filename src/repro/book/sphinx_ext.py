"""Sphinx extension of the book: mathematics without a network, one search field, pages that load what they use.

Sphinx loads MathJax from a content delivery network by default. The package ``django-static-mathjax`` carries
the same files; this extension copies the few that a page needs beside the page. ``_config.yml`` points
``mathjax_path`` at the copy.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from docutils import nodes  # type: ignore[import-untyped]
from fontTools import subset  # type: ignore[import-untyped]
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

from repro.book import _found
from repro.book._environment import cores
from repro.book._links import Links

# scripts without use: icons drawn a second time; thebe, whose button is off, which names a content delivery network
_IDLE = "(?:fontawesome|thebe|THEBE)"
_MENDED = {
    # names and brackets in code: they have the code's own colour
    r'<span class="[npw]">([^<]*)</span>': r"\1",
    r"<script (?=src=(?!.*documentation_options))": "<script defer ",  # not what scripts in the page ask for
    # the colours of the mode from the first moment, and not when the theme's script has run
    r'(localStorage.getItem\("theme"\) \|\| )"auto"': (
        r'\1(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")'
    ),
    # over which a screen reader stumbles: heads without a word, roles that are not allowed there or out of use, and
    # names that are not what is seen
    r'<th(?: scope="col")?></th>': "<td></td>",
    r'(<div (?:class="citation" id="[^"]*")?) ?role="(?:list|doc-biblioentry)"': r"\1",
    r'(<summary|search-button-field search-button__button[^>]*) aria-label="[^"]*"': r"\1",
}

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


def _lightened(app: Sphinx, exception: Exception | None) -> None:
    """Leave in a finished HTML build what its pages use: of the theme's styles, of its icons, of its scripts.

    Figures move out of the pages into files beside them, which a browser fetches when they are seen.
    """
    if exception is not None or app.builder.format != "html":
        return
    out, used = Path(app.outdir), set[str]()
    shutil.rmtree(out / "figures", ignore_errors=True)  # every page that has figures is written anew
    (out / "figures").mkdir()
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        used.update(" ".join(re.findall(r'class="([^"]*)"', text)).split())
        if (light := _light_page(text, page, out)) != text:
            page.write_text(light, encoding="utf-8")
    (out / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)  # draws the icons a second time
    for script in (out / "_static").glob("**/*.js"):
        if "mathjax" not in script.parts:
            used.update(re.findall(r"[\w-]+", script.read_text(encoding="utf-8")))
    icons = set[int]()
    for sheet in (out / "_static").glob("**/*.css"):
        style = _light_style(sheet.read_text(encoding="utf-8"), used)
        icons.update(int(code, 16) for code in re.findall(r'content: ?"\\(f[0-9a-f]{3})"', style))
        sheet.write_text(style, encoding="utf-8")
    for font in (out / "_static").glob("**/webfonts/fa-*.ttf"):
        font.with_suffix(".woff2").unlink(missing_ok=True)
        options = subset.Options(notdef_outline=True, layout_features=[])
        cut, whole = subset.Subsetter(options), subset.load_font(str(font), options)
        cut.populate(unicodes=icons)
        cut.subset(whole)
        subset.save_font(whole, str(font), options)


def _light_page(text: str, page: Path, out: Path) -> str:
    """A page without what holds up its first screen."""

    def beside(match: re.Match[str]) -> str:
        image = base64.b64decode(match[1])
        file = out / "figures" / f"{hashlib.sha256(image).hexdigest()[:16]}.svg"
        file.write_bytes(image)
        return f'src="{Path(os.path.relpath(file, page.parent)).as_posix()}"'

    text = re.sub(r'src="data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)"', beside, text)
    search = "" if page.name == "search.html" else "|searchtools|language_data|searchindex"
    text = re.sub(
        rf"<script [^>]*({_IDLE}{search})[^<]*</script>|<script>[^<]*{_IDLE}[^<]*</script>", "", text
    )
    for wrong, right in _MENDED.items():
        text = re.sub(wrong, right, text)
    return text


def _light_style(style: str, used: set[str]) -> str:
    """A style sheet without the rules of classes that no page and no script names."""

    def kept(match: re.Match[str]) -> str:
        # what stands in brackets may be a list of its own, and a thing that must not be there
        selectors = [match[1]] if "(" in match[1] else match[1].split(",")
        names = (re.findall(r"\.(-?[a-zA-Z_][\w-]*)", re.sub(r"\(.*\)", "", each)) for each in selectors)
        chosen = [each for each, classes in zip(selectors, names, strict=True) if used.issuperset(classes)]
        return f"{','.join(chosen)}{{{match[2]}}}" if chosen else ""

    style = re.sub(r"/\*(?!!)(?s:.*?)\*/|url\([^)]*\.woff2\) format\(.woff2.\),", "", style)
    return re.sub(r"([^{};]+)\{([^{}]*)\}", kept, style)


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
    app.connect("build-finished", _lightened)
    app.connect("env-updated", _every_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
