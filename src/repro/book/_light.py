"""Pages that load what they use: figures beside them; of the theme's styles, icons and scripts what is seen.

Sphinx calls this (see ``sphinx_ext``) when all pages are written.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from pathlib import Path

from fontTools import subset  # type: ignore[import-untyped]
from sphinx.application import Sphinx

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


def lightened(app: Sphinx, exception: Exception | None) -> None:
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
