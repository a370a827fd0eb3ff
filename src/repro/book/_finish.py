"""What is done to finished pages: mathematics and what is for sharing is laid beside them, what none uses taken out.

Sphinx loads MathJax from a content delivery network by default. The package ``django-static-mathjax`` carries the same
files; the few that a page needs are copied beside the pages, and ``_config.yml`` points ``mathjax_path`` at the copy.
The address at which the book stands is ``html: baseurl`` of ``_config.yml``.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from importlib.resources import as_file, files
from pathlib import Path

from fontTools import subset  # type: ignore[import-untyped]
from markupsafe import Markup
from sphinx.application import Sphinx

from repro.book import _history, _pages
from repro.book._markup import rendered
from repro.book._ruler import picture
from repro.book.layout import Book

# the loader, the fonts, and the TeX commands that MathJax fetches when a formula first uses them
_MATHJAX_PARTS = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")
_MOST_CHANGES = 50  # in the feed
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


def finished(app: Sphinx, exception: Exception | None) -> None:
    """Finish an HTML build that went well; Sphinx calls this when all pages are written."""
    if exception is None and app.builder.format == "html":
        out = Path(app.outdir)
        _copy_mathjax(out / "_static" / "mathjax")
        _lay_beside(app, out)
        _lighten(out)


def _copy_mathjax(target: Path) -> None:
    with as_file(files("mathjax") / "static" / "mathjax" / "es5") as source:
        for part in _MATHJAX_PARTS:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            if (source / part).is_dir():
                shutil.copytree(source / part, target / part, dirs_exist_ok=True)
            else:
                shutil.copy2(source / part, target / part)


def _lay_beside(app: Sphinx, out: Path) -> None:
    """Put beside the pages: the committed results, CITATION.cff, a picture, a map of the site, changes of answers."""
    book, base = Book.find(), app.config.html_baseurl
    results = _pages.all_results(book)
    chapters = _pages.chapters(book, results)
    (out / "book" / "results").mkdir(parents=True, exist_ok=True)
    for key in results:
        shutil.copy2(book.results_file(*key), out / "book" / "results")
    for citation in book.root.glob("CITATION.cff"):
        shutil.copy2(citation, out)
    titles = {each.name: Markup(each.title).striptags() for each in chapters}
    columns = [_pages.drawn(each, titles[each.name].partition(":")[0]) for each in chapters]
    (out / "_static" / "ruler.png").write_bytes(picture(app.config.html_title, columns))
    changes = [each for each in _history.changes(book, results.values()) if each["chapter"] in titles]
    about = {"base": base, "book": app.config.html_title, "pages": sorted(app.env.found_docs)}
    for name in ("feed.xml", "sitemap.xml"):
        text = rendered(name, titles=titles, changes=changes[:_MOST_CHANGES], **about)
        (out / name).write_text(text, encoding="utf-8")


def _lighten(out: Path) -> None:
    """Leave what the pages use: of the theme's styles, of its icons, of its scripts.

    Figures move out of the pages into files beside them, which a browser fetches when they are seen.
    """
    used = set[str]()
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
    icons = set[str]()
    for sheet in (out / "_static").glob("**/*.css"):
        style = _light_style(sheet.read_text(encoding="utf-8"), used)
        icons.update(re.findall(r'content: ?"\\(f[0-9a-f]{3})"', style))
        sheet.write_text(style, encoding="utf-8")
    for font in (out / "_static").glob("**/webfonts/fa-*.ttf"):
        font.with_suffix(".woff2").unlink(missing_ok=True)
        command = [str(font), f"--output-file={font}", "--notdef-outline", "--layout-features="]
        subset.main([*command, f"--unicodes={','.join(sorted(icons))}"])


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
