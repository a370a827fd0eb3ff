"""The pages of the library name every public module, and their mathematics is written as in the notebooks."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import repro
from repro.book.sphinx_ext import docstring_mathematics

PAGES = Path(__file__).resolve().parents[2] / "book"
SCIENCE = ("learn", "prune", "papers", "series", "base")


def documented() -> set[str]:
    pages = [PAGES / "api.md", *sorted((PAGES / "api").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    found = re.findall(
        r"^\.\. automodule:: (\S+)\n   :members:(\n   :imported-members:)?", text, flags=re.MULTILINE
    )
    # a package's page has all that it exports, which is what its modules do
    return {name for name, _ in found} | {
        module.name
        for name, exported in found
        if exported
        for module in pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}.")
    }


def public_modules() -> set[str]:
    found = pkgutil.walk_packages(repro.__path__, "repro.")
    names = {module.name for module in found if not module.ispkg}
    return {
        n for n in names if n.split(".")[1] in SCIENCE and not any(p.startswith("_") for p in n.split("."))
    }


def test_every_public_module_of_the_science_has_its_place():
    missing = public_modules() - documented()
    assert not missing, f"add to a page in book/api: {sorted(missing)}"


def test_pages_document_no_module_that_is_gone():
    every = {module.name for module in pkgutil.walk_packages(repro.__path__, "repro.")}
    assert documented() <= every, f"remove from book/api: {sorted(documented() - every)}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("the step $h$ of it", r"the step :math:`h` of it"),
        ("the $k$th", "the :math:`k`\\ th"),
        ("two\nlines of $a\n+ b$", "two\nlines of :math:`a + b`"),
        ("``cost $5`` and ``$x``", "``cost $5`` and ``$x``"),
        ("so $$a = b$$ holds", "so \n\n.. math:: a = b\n\n holds"),
        ("no mathematics", "no mathematics"),
    ],
)
def test_docstring_mathematics(written, expected):
    lines = written.split("\n")
    docstring_mathematics(None, "function", "name", None, None, lines)
    assert "\n".join(lines) == expected
