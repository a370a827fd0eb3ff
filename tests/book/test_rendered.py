"""The rendered book in headless Chromium: readable offline, on a phone, in the dark and by everybody.

``REPRO_SITE`` names the folder of a built book (``_build/html``), as the continuous integration does after it has
built one; without it, a small book is built from the real configuration.
"""

import os
import re
import shutil
import threading
from functools import cache, partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from xml.etree import ElementTree

import nbformat
import pytest
import stand_in
import yaml
from bs4 import BeautifulSoup
from PIL import Image

pytestmark = pytest.mark.browser

REAL = "REPRO_SITE" in os.environ
RARE = "exponential" if REAL else "quokkaword"
CONFIG = yaml.safe_load((stand_in.ROOT / "_config.yml").read_text(encoding="utf-8"))
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


class Quiet(SimpleHTTPRequestHandler):
    """A file server that keeps its log to itself."""

    def log_message(self, format, *args):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a built book."""
    if not REAL:
        return stand_in.made(tmp_path_factory.mktemp("book"))
    folder = Path(os.environ["REPRO_SITE"]).resolve()
    assert (folder / "index.html").is_file(), f"{folder} holds no index.html: build the book first"
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """The book's own pages, as addresses below the site's root."""
    found = sorted(p.relative_to(site).as_posix() for p in (site / "book").rglob("*.html"))
    assert "book/index.html" in found
    return found


@pytest.fixture(scope="module")
def chapters(pages):
    found = [p for p in pages if p.startswith("book/chapters/")]
    assert found, "no chapter in the built book"
    return found


@pytest.fixture(scope="module")
def address(site):
    """Serve the site on the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip("no chromium on the path: install Debian's package chromium to run the browser tests")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=ARGUMENTS, timeout=300_000)
        yield chromium
        chromium.close()


class Visit:
    """A browser page that remembers what the console said and what was asked of the network."""

    def __init__(self, browser, address):
        self.address, self.errors, self.requests, self.failed = address, [], [], []
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        # what would leave the machine is refused, and recorded as all requests are
        self.context.route(lambda url: not url.startswith(address), lambda route: route.abort())
        self.context.set_default_timeout(300_000)  # a slow machine's, and a busy one's
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", lambda r: self.failed.append(r.url) if r.status >= 400 else None)

    @property
    def outside(self):
        local = (self.address, "data:", "blob:", "about:")
        return [url for url in self.requests if not url.startswith(local)]

    def open(self, name):
        """Open a page and wait until its mathematics is typeset."""
        self.page.goto(urljoin(self.address, name))
        self.page.evaluate("window.MathJax?.startup?.promise?.then(() => true)")
        return self.page


@pytest.fixture
def visit(browser, address):
    each = Visit(browser, address)
    yield each
    each.context.close()


# --- what holds for every page ----------------------------------------------------------------------------------

LOOK = r"""() => ({
    'a formula that is an error': [...document.querySelectorAll('mjx-merror, [data-mjx-error]')]
        .map(e => e.getAttribute('title') || e.textContent),
    // a file's name is not a description; the logo outside the article needs the attribute alone
    'an image without a text': [...document.querySelectorAll('img')]
        .filter(i => i.closest('article')
            ? !i.alt.trim() || /^(\.\.\/|_images|https?:|.*\.(png|svg)$)/.test(i.alt)
            : i.getAttribute('alt') === null)
        .map(i => i.outerHTML.slice(0, 200)),
    'an image that is not there': [...document.querySelectorAll('img')]
        .filter(i => i.complete && i.naturalWidth === 0).map(i => i.src),
})"""
WIDER = """width => {
    const scrolls = e => e && (/auto|scroll|hidden/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
    return [
        ...(document.documentElement.scrollWidth <= width ? [] : ['the page']),
        ...[...document.querySelectorAll('article *')]
            .filter(e => e.getClientRects().length && e.getBoundingClientRect().right > width + 1
                         && !e.closest('mjx-assistive-mml') && !scrolls(e))
            .map(e => e.outerHTML.slice(0, 120))];
}"""


def parsed(path):
    return BeautifulSoup(path.resolve().read_text(encoding="utf-8"), "html.parser")


def _inaccessible(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    faults = axe.run(page).response["violations"]
    return [f"{each['id']}: {[node['html'][:160] for node in each['nodes'][:3]]}" for each in faults]


def _heavy(site, requests):
    """What a page loads for its first view, if that is too much; files as they lie there."""
    asked = {urlsplit(url).path.lstrip("/") for url in requests if url.startswith("http")}
    files = {name: site / name for name in asked if "mathjax" not in name and (site / name).is_file()}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    return sizes if sum(sizes.values()) > 700_000 else {}


@pytest.fixture(scope="module")
def faults(browser, address, site, pages):
    """Every page, opened once and left until nothing more is asked of the network: what is wrong with it."""
    found, each = {}, Visit(browser, address)
    for name in [*pages, "search.html", "genindex.html"]:
        each.page.emulate_media(color_scheme="light")
        each.page.set_viewport_size({"width": 1280, "height": 900})
        for heard in (each.errors, each.requests, each.failed):
            heard.clear()
        page = each.open(name)
        page.wait_for_load_state("networkidle")
        found[name] = page.evaluate(LOOK) | {  # before the scan, which asks for files of its own
            "an error in the console": [*each.errors],
            "a request that leaves the machine": each.outside,
            "a request for what is not there": [*each.failed],
            "more than 0.7 MB before mathematics": _heavy(site, each.requests),
        }
        if name == "genindex.html":  # made by Sphinx for those who want it
            continue
        # colours fade from light to dark; half way there is no contrast to judge
        page.add_style_tag(content="*, *::before, *::after { transition: none !important; }")
        found[name]["what not everybody can read"] = _inaccessible(page)
        if not name.startswith("book/api/"):  # long pages of one kind: api.html stands for them
            page.emulate_media(color_scheme="dark")
            page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
            found[name]["what not everybody can read in the dark"] = _inaccessible(page)
        page.set_viewport_size({"width": 390, "height": 844})
        found[name]["what is wider than a phone"] = page.evaluate(WIDER, 390)
        page.set_viewport_size({"width": 688, "height": 1000})  # A4 without its margins
        page.emulate_media(media="print")
        found[name]["what is cut on paper"] = page.evaluate(WIDER, 688)
        page.emulate_media(media="screen")
    each.context.close()
    return found


def test_no_page_has_a_fault(faults):
    found = {f"{name}: {kind}": what for name, page in faults.items() for kind, what in page.items() if what}
    assert found == {}


@cache
def _links(path):
    """The targets and the anchors of a page."""
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r'<(?:a|link|img|script)\b[^>]*?\s(?:href|src)="([^"]+)"', text)
    return [unescape(target) for target in targets], set(re.findall(r'\s(?:id|name)="([^"]+)"', text))


def test_internal_links_resolve_to_files_and_anchors(site, pages):
    missing = []
    for name in [*pages, "index.html", "search.html", "genindex.html"]:
        page = site / name
        for target in _links(page)[0]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            path = path / "index.html" if path.is_dir() else path
            html = path.suffix == ".html"
            if not path.is_file():
                missing.append(f"{name} -> {target}")
            elif html and parts.fragment and unquote(parts.fragment) not in _links(path)[1]:
                missing.append(f"{name} -> {target} (no such anchor)")
    assert missing == []


def test_every_page_says_what_it_is_and_where_it_stands(site, pages):
    base, said = CONFIG["html"]["baseurl"], {}
    for name in pages:
        page = parsed(site / name)
        head = {m.get("name") or m.get("property"): m.get("content") for m in page.head("meta")}
        assert page.head.find("link", rel="canonical")["href"] == head["og:url"] == base + name
        assert page.h1.get_text().startswith(head["og:title"])
        assert not re.search(r"[\\<>]", head["description"]), name
        said[name] = head["description"]
        assert not page.body.find(string=re.compile("<meta"))
    assert len(set(said.values())) == len(said)
    assert (site / urlsplit(head["og:image"]).path.removeprefix(urlsplit(base).path)).is_file()
    with Image.open(site / "_static/ruler.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1200, 630))
    mapped, feed = (ElementTree.parse(site / name).getroot() for name in ("sitemap.xml", "feed.xml"))
    assert sorted(each[0].text for each in mapped) == sorted(base + name for name in pages)
    assert feed.find("{*}entry/{*}link").get("href").startswith(base)


def test_words_and_names_lead_to_their_explanations(site, chapters):
    chapter = parsed(site / chapters[0])
    explained = chapter.select("a.explained")
    assert len({each["title"] for each in explained}) == len(explained) > 0  # each once
    names = chapter.select("pre a.api")
    assert names
    page, _, anchor = names[0]["href"].partition("#")
    back = parsed(site / "book/chapters" / page).find(id=anchor).parent.select("dd > p.used-in a")
    assert any(Path(chapters[0]).name in link["href"] for link in back)


# --- what a reader does -------------------------------------------------------------------------------------------


def test_the_root_leads_to_the_first_page(visit, address):
    visit.page.goto(address)
    visit.page.wait_for_url("**/book/index.html")
    assert "sparse" in visit.page.title()


def test_search_finds_a_word(visit, chapters):
    page = visit.open("book/index.html")
    page.locator(".search-button-field:visible, .search-button__button:visible").first.click()
    field = page.locator("#pst-search-dialog input[type=search]")
    field.fill(RARE)
    field.press("Enter")
    page.wait_for_selector("#search-results li a")
    links = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert any(Path(chapters[0]).stem in link for link in links), links
    assert not visit.errors
    assert not visit.outside


def test_what_is_not_there_offers_a_search_from_any_depth(visit, site):
    below = urlsplit(CONFIG["html"]["baseurl"])

    def serve(route):
        path = site / urlsplit(route.request.url).path.removeprefix(below.path)
        route.fulfill(**({"path": path} if path.is_file() else {"path": site / "404.html", "status": 404}))

    visit.context.route(f"**{below.path}**", serve)
    page = visit.page
    page.goto(urljoin(visit.address, f"{below.path}no/such/page.html"))
    page.get_by_label("Search the book").fill(RARE)
    page.get_by_role("button", name="Search", exact=True).last.click()
    page.wait_for_selector("#search-results li a")
    assert page.url.startswith(urljoin(visit.address, f"{below.path}search.html?q="))


def test_an_answer_leads_to_its_origin(visit, chapters):
    page = visit.open(chapters[0])
    page.locator("ul.answers a").first.click()
    origin = page.locator("tr:target details.origin")
    assert origin.get_attribute("open") is not None
    assert "values by seed" in origin.inner_text()
    assert "/blob/" in origin.locator("a", has_text="commit").get_attribute("href")


def test_mathematics_is_typeset_with_its_own_fonts(visit, chapters):
    page = visit.open(chapters[0])
    page.wait_for_selector("mjx-container")
    assert any("_static/mathjax/output/chtml/fonts" in url for url in visit.requests), "no font was loaded"
    formulas = page.locator("article .math")
    assert formulas.count() >= 2
    assert formulas.filter(has_not=page.locator("mjx-container")).count() == 0


def test_the_scoreboard_is_short_and_can_be_filtered(visit):
    visit.page.set_viewport_size({"width": 1400, "height": 900})
    page = visit.open("book/scoreboard.html")
    assert page.evaluate("document.documentElement.scrollHeight") <= 6000
    lines = page.locator("ul.scoreboard > li:visible")
    every = lines.count()
    page.get_by_label("Verdict").select_option(lines.first.get_attribute("data-verdict"))
    assert 0 < lines.count() < every
    assert len(set(lines.evaluate_all("all => all.map(each => each.dataset.verdict)"))) == 1
    said = page.locator("#scoreboard-filter [role=status]").inner_text()
    assert said == f"{lines.count()} of {every} claims"
    lines.first.locator("summary").press("Enter")
    assert "seeds" in lines.first.locator("details").inner_text()
    page.get_by_role("button", name="Show all").press("Enter")
    shown = "document.querySelectorAll('ul.scoreboard > li:not([hidden])').length"
    page.wait_for_function(f"{shown} === {every}")


def test_code_has_room_and_figures_follow_the_mode(visit, chapters):
    visit.page.set_viewport_size({"width": 1400, "height": 900})
    visit.page.emulate_media(color_scheme="dark")
    page = visit.open(chapters[0])
    room = "e => { e.textContent = '0'.repeat(88); return e.clientWidth - e.scrollWidth; }"
    assert page.locator(".cell_input pre:visible").first.evaluate(room) >= 0
    figures = page.locator("img[src*='figures/']")
    look = "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).filter.split('(')[0], e.loading]"
    looks = [figure.evaluate(look) for figure in figures.all()]
    assert looks
    assert looks == [["rgba(0, 0, 0, 0)", "invert", "lazy"]] * len(looks)


def test_the_ruler_is_read_in_order_and_fits_a_phone(visit, chapters):
    visit.page.set_viewport_size({"width": 360, "height": 800})
    page = visit.open("book/index.html")
    first = page.locator(".ruler svg a").first
    told = first.locator("title").text_content()
    assert re.match(r"\w+( [\w-]+)?: (yes|no|open|exploratory|not tested): ", told)
    right = "all => all.map(each => each.getBoundingClientRect().right)"
    assert max(page.locator(".ruler svg *").evaluate_all(right)) <= 360
    first.press("Enter")
    page.wait_for_url("**#claim-*")


def test_launch_buttons_point_at_files_of_the_repository(site, chapters):
    place, branch = urlsplit(CONFIG["repository"]["url"]).path.strip("/"), CONFIG["repository"]["branch"]
    for name in chapters:
        notebook = name.removesuffix(".html") + ".ipynb"
        binder = f"https://mybinder.org/v2/gh/{place}/{branch}?urlpath=lab/tree/{notebook}"
        colab = f"https://colab.research.google.com/github/{place}/blob/{branch}/{notebook}"
        launched = [t for t in _links(site / name)[0] if t.startswith(("https://mybinder", "https://colab"))]
        assert sorted(launched) == sorted([binder, colab])
        if REAL:
            assert (stand_in.ROOT / notebook).is_file(), f"{notebook} is not in the repository"


def test_the_executed_notebook_can_be_downloaded(visit, chapters, tmp_path):
    for name in chapters:
        page = visit.open(name)
        link = page.locator("a.btn-download-source-button")
        assert link.get_attribute("href").endswith(".ipynb")
        page.locator(".dropdown-download-buttons > button").click()
        with page.expect_download() as waiting:
            link.click()
        target = tmp_path / "downloaded.ipynb"
        waiting.value.save_as(target)
        notebook = nbformat.read(target, as_version=4)
        nbformat.validate(notebook)
        assert any(cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"), "no outputs"
