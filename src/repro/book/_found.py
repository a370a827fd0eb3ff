"""What lets the book be found and shared: what a page says of itself, a picture, a map of the site, a feed.

Sphinx calls this (see ``sphinx_ext``). The address at which the book stands is ``html: baseurl`` of ``_config.yml``.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes  # type: ignore[import-untyped]
from markupsafe import Markup
from sphinx.application import Sphinx

from repro.book import _history, _pages
from repro.book._markup import rendered
from repro.book._ruler import picture
from repro.book.layout import Book

_MOST_CHANGES = 50  # in the feed


def described(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
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


def beside_the_pages(app: Sphinx, exception: Exception | None) -> None:
    """Put beside the pages: the committed results, CITATION.cff, a picture, a map of the site, changes of answers."""
    if exception is not None or app.builder.format != "html":
        return
    source, out, base = Path(app.srcdir), Path(app.outdir), app.config.html_baseurl
    # the staging copy of a build holds no claims
    book = Book(source) if (source / "book" / "claims").is_dir() else Book.find()
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
        (out / name).write_text(
            rendered(name, titles=titles, changes=changes[:_MOST_CHANGES], **about), "utf-8"
        )
