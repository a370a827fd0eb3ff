"""The pages of the library: every module of the science has its place, and no page is a list of everything."""

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import repro
from repro.book.sphinx_ext import _docstring_mathematics

BOOK = Path(__file__).resolve().parents[2] / "book"
PAGES = [BOOK / "api.md", *sorted((BOOK / "api").glob("*.md"))]
SCIENCE = ("learn", "prune", "papers", "series", "base", "head_to_head")


def documented(page):
    """The modules of a page with the names that it shows of each: those listed, or all that the module exports."""
    found = re.findall(r"^\.\. automodule:: (\S+)\n   :members:(.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {
        module: [name.strip() for name in listed.split(",")] if listed else import_module(module).__all__
        for module, listed in found
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_few_names_and_none_that_is_gone(page):
    shown = documented(page)
    assert sum(map(len, shown.values())) <= 40
    unknown = {module: set(names) - set(dir(import_module(module))) for module, names in shown.items()}
    assert not any(unknown.values()), unknown


def has_public_names(module):
    own = (
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    )
    return not all(name.startswith("_") for name in own)


def test_every_public_module_of_the_science_has_its_place():
    shown = {module for page in PAGES for module in documented(page)}
    for found in pkgutil.walk_packages(repro.__path__, "repro."):
        parts = found.name.split(".")
        if parts[1] in SCIENCE and not found.ispkg and not any(part.startswith("_") for part in parts):
            # the page of a package shows what its modules do
            places = {found.name, found.name.rpartition(".")[0]}
            told = f"add {found.name} to a page in book/api"
            assert places & shown or not has_public_names(import_module(found.name)), told


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("the step $h$ of it", r"the step :math:`h` of it"),
        ("the $k$th", "the :math:`k`\\ th"),
        ("two\nlines of $a\n+ b$", "two\nlines of :math:`a + b`"),
        ("``cost $5`` and ``$x``", "``cost $5`` and ``$x``"),
        ("so $$a = b$$ holds", "so \n\n.. math:: a = b\n\n holds"),
    ],
)
def test_docstring_mathematics(written, expected):
    lines = written.split("\n")
    _docstring_mathematics(None, "function", "name", None, None, lines)
    assert "\n".join(lines) == expected
