"""The rendered book in headless Chromium: readable offline, on a phone, in the dark and by everybody.

``REPRO_SITE`` names the folder of a built book (``_build/html``); without it, a small book with a stand-in
chapter is built from the real configuration and pages.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
import stand_in
import yaml

pytestmark = pytest.mark.browser

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


class Quiet(SimpleHTTPRequestHandler):
    """A file server that keeps its log to itself."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a built book."""
    given = os.environ.get("REPRO_SITE")
    if given:
        folder = Path(given).resolve()
        assert (folder / "index.html").is_file(), (
            f"REPRO_SITE={given} holds no index.html: build the book first"
        )
        return folder
    return stand_in.build(stand_in.make(tmp_path_factory.mktemp("book")))


@pytest.fixture(scope="module")
def pages(site: Path) -> list[str]:
    """The book's own pages, as addresses below the site's root."""
    found = sorted(p.relative_to(site).as_posix() for p in (site / "book").rglob("*.html"))
    assert "book/index.html" in found
    return found


@pytest.fixture(scope="module")
def chapters(pages: list[str]) -> list[str]:
    found = [p for p in pages if p.startswith("book/chapters/")]
    assert found, "no chapter in the built book"
    return found


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
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
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no chromium on the path: install Debian's package chromium to run the browser tests")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=executable, args=ARGUMENTS, timeout=300_000)
        yield chromium
        chromium.close()


class Visit:
    """A browser page that remembers what the console said and what was asked of the network."""

    def __init__(self, browser, address: str, width: int = 1280, height: int = 900, dark: bool = False):
        self.address = address
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.failed: list[str] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
        )
        # what would leave the machine is recorded and refused
        self.context.route(lambda url: not url.startswith(address), self._refuse)
        self.context.set_default_timeout(300_000)  # a slow machine's, and a busy one's
        self.page = self.context.new_page()
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("response", lambda r: self.failed.append(r.url) if r.status >= 400 else None)

    def _refuse(self, route) -> None:
        self.requests.append(route.request.url)
        route.abort()

    @property
    def outside(self) -> list[str]:
        local = (self.address, "data:", "blob:", "about:")
        return [url for url in self.requests if not url.startswith(local)]

    def open(self, name: str):
        """Open a page and wait until its mathematics is typeset."""
        self.page.goto(urljoin(self.address, name))
        self.page.evaluate("window.MathJax?.startup?.promise?.then(() => true)")
        return self.page


@pytest.fixture
def visit(browser, address: str) -> Iterator:
    visits: list[Visit] = []

    def start(**options) -> Visit:
        visits.append(Visit(browser, address, **options))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()


@dataclass
class Seen:
    """What a browser with a wide screen saw on one page."""

    errors: list[str]
    failed: list[str]
    outside: list[str]
    formula_faults: list[str]
    undescribed_images: list[str]
    broken_images: list[str]


LOOK = r"""() => ({
    formula_faults: [...document.querySelectorAll('mjx-merror, [data-mjx-error]')]
        .map(e => e.getAttribute('title') || e.textContent),
    // a file's name is not a description; the logo outside the article needs the attribute alone
    undescribed_images: [...document.querySelectorAll('img')]
        .filter(i => i.closest('article')
            ? !i.alt.trim() || /^(\.\.\/|_images|https?:|.*\.(png|svg)$)/.test(i.alt)
            : i.getAttribute('alt') === null)
        .map(i => i.outerHTML.slice(0, 200)),
    broken_images: [...document.querySelectorAll('img')]
        .filter(i => i.complete && i.naturalWidth === 0).map(i => i.src),
})"""


@pytest.fixture(scope="module")
def seen(browser, address: str, pages: list[str]) -> dict[str, Seen]:
    """Every page, opened once and left until nothing more is asked of the network."""
    found = {}
    for name in [*pages, "search.html", "genindex.html"]:
        each = Visit(browser, address)
        page = each.open(name)
        page.wait_for_load_state("networkidle")
        found[name] = Seen(each.errors, each.failed, each.outside, **page.evaluate(LOOK))
        each.context.close()
    return found


def test_the_console_is_silent(seen):
    assert {name: page.errors for name, page in seen.items() if page.errors} == {}


def test_no_request_leaves_the_machine(seen):
    assert {name: page.outside for name, page in seen.items() if page.outside} == {}


def test_everything_asked_for_is_found(seen):
    assert {name: page.failed for name, page in seen.items() if page.failed} == {}


def test_no_formula_is_an_error(seen):
    assert {name: page.formula_faults for name, page in seen.items() if page.formula_faults} == {}


def test_every_image_has_alt_text(seen):
    assert {name: page.undescribed_images for name, page in seen.items() if page.undescribed_images} == {}


def test_every_image_is_there(seen):
    assert {name: page.broken_images for name, page in seen.items() if page.broken_images} == {}


def test_pages_name_no_script_style_or_image_elsewhere(site, pages):
    asks = re.compile(
        r"<(?:script|img|iframe)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+stylesheet[^>]+href=[\"']?(?:https?:)?//"
    )
    for name in pages:
        text = (site / name).read_text(encoding="utf-8")
        found = asks.search(text)
        assert found is None, f"{name}: {text[found.start() : found.start() + 160]}"


def test_the_root_leads_to_the_first_page(visit, address):
    page = visit().page
    page.goto(address)
    page.wait_for_url("**/book/index.html")
    assert "sparse" in page.title()


def test_search_finds_a_word(visit, chapters, site):
    word = "quokkaword" if "REPRO_SITE" not in os.environ else "exponential"
    each = visit()
    page = each.open(f"search.html?q={word}")
    page.wait_for_selector("#search-results li a")
    targets = page.eval_on_selector_all(
        "#search-results li a", "links => links.map(a => a.getAttribute('href'))"
    )
    assert any(Path(chapters[0]).stem in target for target in targets), targets
    assert not each.errors
    assert not each.outside


def test_search_dialog_opens_and_leads_to_the_results(visit):
    page = visit().open("book/index.html")
    page.locator(".search-button-field:visible, .search-button__button:visible").first.click()
    field = page.locator("#pst-search-dialog input[type=search]")
    field.fill("verdict")
    field.press("Enter")
    page.wait_for_selector("#search-results li a")


def test_mathematics_is_typeset_with_its_own_fonts(visit, chapters):
    each = visit()
    page = each.open(chapters[0])
    page.wait_for_selector("mjx-container")
    assert page.locator("mjx-container").count() >= 2
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert any("_static/mathjax/output/chtml/fonts" in url for url in each.requests), "no font was loaded"
    left = page.evaluate(
        "[...document.querySelectorAll('article .math')]"
        ".filter(e => !e.querySelector('mjx-container')).length"
    )
    assert left == 0


def test_dark_mode_can_be_switched_and_stays(visit):
    each = visit()
    page = each.open("book/index.html")
    background = "getComputedStyle(document.body).backgroundColor"
    seen = {page.evaluate(background)}
    modes = set()
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        modes.add(page.evaluate("document.documentElement.dataset.mode"))
        seen.add(page.evaluate(background))
    assert modes == {"auto", "light", "dark"}
    assert len(seen) == 2, f"light and dark have the same background: {seen}"
    page.evaluate("localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')")
    page = each.open("book/reading-guide.html")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_copy_buttons_stand_at_code_cells(visit, chapters):
    page = visit().open(chapters[0])
    cells = page.locator("div.cell_input div.highlight").count()
    assert cells
    assert page.locator("div.cell_input button.copybtn").count() == cells


def test_exercises_fold_their_solutions(visit, chapters):
    page = visit().open(chapters[0])
    solution = page.locator(".solution.dropdown").first
    body = solution.locator(".section, .solution-content, section").first
    assert not body.is_visible()
    # the title itself holds a link to the exercise, and where that stands depends on the fonts
    solution.locator("button.toggle-button").click()
    body.wait_for(state="visible")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_accessibility_scan_finds_no_serious_fault(visit, pages, dark):
    axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    axe = axe_module.Axe()
    for name in [*pages, "search.html"]:
        if dark and name.startswith("book/api/"):
            continue  # long pages of one kind, scanned in light mode; book/api.html stands for them here
        page = visit(dark=dark).open(name)
        # colours fade from light to dark; half way there is no contrast to judge
        page.add_style_tag(content="*, *::before, *::after { transition: none !important; }")
        found = axe.run(page).response["violations"]
        faults = [
            f"{fault['id']} ({fault['impact']}): {[node['html'][:160] for node in fault['nodes'][:3]]}"
            for fault in found
            if fault["impact"] in ("serious", "critical") or fault["id"] == "region"
        ]
        assert not faults, f"{name}: " + "\n".join(faults)


def test_nothing_is_wider_than_a_phone(visit, pages):
    for name in pages:
        page = visit(width=390, height=844).open(name)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, f"{name} scrolls sideways: {wide} px wide"
        outside = page.evaluate(
            """['p', 'li', 'h1', 'h2', 'h3', 'img']
            .flatMap(tag => [...document.querySelectorAll(`article ${tag}`)])
            .filter(e => e.offsetParent && e.getBoundingClientRect().right > 391
                         && !e.closest('.pst-scrollable-table-container, .cell_output, pre, mjx-container'))
            .map(e => e.outerHTML.slice(0, 120))"""
        )
        assert not outside, f"{name}: cut off at the right: {outside}"


def test_the_menu_opens_on_a_phone(visit):
    page = visit(width=390, height=844).open("book/index.html")
    page.locator("button.primary-toggle:visible").first.click()
    page.locator("#pst-primary-sidebar-modal a:visible", has_text="Reading guide").first.click()
    page.wait_for_url("**/reading-guide.html")


class Links(HTMLParser):
    """The targets and the anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        for key in ("id", "name"):
            if values.get(key):
                self.anchors.add(str(values[key]))
        key = {"a": "href", "link": "href", "img": "src", "script": "src"}.get(tag)
        if key and values.get(key):
            self.targets.append(str(values[key]))


def _links(path: Path, _known: dict[Path, Links] = {}) -> Links:  # noqa: B006
    if path not in _known:
        _known[path] = Links()
        _known[path].feed(path.read_text(encoding="utf-8"))
    return _known[path]


def test_internal_links_resolve_to_files_and_anchors(site, pages):
    missing = []
    for name in [*pages, "index.html", "search.html", "genindex.html"]:
        page = site / name
        for target in _links(page).targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if path.is_dir():
                path /= "index.html"
            if not path.is_file():
                missing.append(f"{name} -> {target}")
            elif (
                parts.fragment
                and path.suffix == ".html"
                and unquote(parts.fragment) not in _links(path).anchors
            ):
                missing.append(f"{name} -> {target} (no such anchor)")
    assert not missing, "\n".join(missing)


def test_launch_buttons_point_at_files_of_the_repository(site, chapters):
    config = yaml.safe_load((stand_in.ROOT / "_config.yml").read_text(encoding="utf-8"))
    owner_and_name = urlsplit(config["repository"]["url"]).path.strip("/")
    branch = config["repository"]["branch"]
    toc = yaml.safe_load((stand_in.ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {entry["file"] + ".ipynb" for part in toc["parts"] for entry in part["chapters"]}
    for name in chapters:
        targets = _links(site / name).targets
        binder = [t for t in targets if t.startswith("https://mybinder.org/")]
        colab = [t for t in targets if t.startswith("https://colab.research.google.com/")]
        assert len(binder) == 1, f"{name}: {binder}"
        assert len(colab) == 1, f"{name}: {colab}"
        start = f"https://mybinder.org/v2/gh/{owner_and_name}/{branch}?urlpath=lab/tree/"
        assert binder[0].startswith(start)
        opened = {binder[0].removeprefix(start)}
        start = f"https://colab.research.google.com/github/{owner_and_name}/blob/{branch}/"
        assert colab[0].startswith(start)
        opened.add(colab[0].removeprefix(start))
        assert len(opened) == 1, f"Binder and Colab open different files: {opened}"
        notebook = opened.pop()
        assert notebook == name.removesuffix(".html") + ".ipynb"
        assert notebook in listed
        if "REPRO_SITE" in os.environ:
            assert (stand_in.ROOT / notebook).is_file(), f"{notebook} is not in the repository"


def test_the_executed_notebook_can_be_downloaded(visit, chapters, tmp_path):
    import nbformat

    for name in chapters:
        page = visit().open(name)
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
