"""What a run takes in: parameters from a command line, and the part of the library that a notebook reaches."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.book import _environment, parameters
from repro.book.errors import BadInput
from repro.book.parameters import _read_cell

CELL = """profile: str = "quick"  # {smoke, quick, paper} how much
n: int = None  # [1, 9] how many
rate: float = 0.5  # [0, 1] how fast
loud: bool = False  # whether to shout"""
DECLARED = _read_cell(CELL)
TYPES = {"profile": str, "n": int, "rate": float, "loud": bool}


def test_the_cell_is_read_with_types_ranges_and_help():
    assert [(p.name, p.type, p.default, p.allowed, p.help) for p in DECLARED] == [
        ("profile", "str", "quick", "{smoke, quick, paper}", "how much"),
        ("n", "int", None, "[1, 9]", "how many"),
        ("rate", "float", 0.5, "[0, 1]", "how fast"),
        ("loud", "bool", False, "", "whether to shout"),
    ]


@given(
    st.sampled_from(sorted(TYPES)),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
)
def test_any_value_is_accepted_rightly_typed_or_refused(name, value):
    try:
        found = parameters.fill(DECLARED, {name: value})[name]
    except BadInput:
        return
    assert (found is None and name == "n") or type(found) is TYPES[name]
    if name == "n" and found is not None:
        assert 1 <= found <= 9
    if name == "rate":
        assert 0 <= found <= 1  # never NaN


def test_none_is_filled_from_the_profile_and_a_given_value_stays():
    profiles = {"smoke": {}, "quick": {"n": 4}, "paper": {"n": 9}}
    for asked, n in (({}, 4), ({"profile": "paper"}, 9), ({"profile": "paper", "n": 2}, 2)):
        assert parameters.fill(DECLARED, asked, profiles, "toy.yml")["n"] == n
    with pytest.raises(BadInput, match=r"toy\.yml.*'smoke'.*n"):
        parameters.fill(DECLARED, {"profile": "smoke"}, profiles, "toy.yml")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in which a reaches b, through an import inside a function, and nothing reaches c."""
    root = tmp_path / "repro"
    (root / "papers").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "papers/__init__.py").write_text("")
    (root / "papers/a.py").write_text("def f():\n    from repro.b import g\n    return g()\n")
    (root / "b.py").write_text("def g():\n    return 1\n")
    (root / "c.py").write_text("x = 1\n")
    monkeypatch.setattr(_environment, "LIBRARY", root)
    return root


def notebook(*sources):
    return {"cells": [{"cell_type": "code", "source": source} for source in sources]}


def test_a_function_that_the_notebook_reaches_changes_the_fingerprint_and_another_does_not(package):
    cell = notebook("from repro.papers import a\na.f()")
    reached = [path.relative_to(package).as_posix() for path in _environment.library_files(cell)]
    assert reached == ["__init__.py", "b.py", "papers/__init__.py", "papers/a.py"]
    before = _environment.key_parts(cell, {}, None, {})["library"]
    (package / "c.py").write_text("x = 2\n")
    assert _environment.key_parts(cell, {}, None, {})["library"] == before
    (package / "b.py").write_text("def g():\n    return 2\n")
    assert _environment.key_parts(cell, {}, None, {})["library"] != before


def test_a_cell_that_cannot_be_read_depends_on_everything(package):
    assert package / "c.py" in _environment.library_files(notebook("%%bash\nnot ) python"))
    assert _environment.library_files(notebook("%matplotlib inline\nimport os")) == []


def test_the_chapter_depends_on_its_paper_and_not_on_how_pages_are_rendered():
    root = Path(__file__).parents[2]
    chapter = json.loads((root / "book/chapters/ewn-inductive-bias.ipynb").read_text())
    reached = {
        path.relative_to(root / "src/repro").as_posix() for path in _environment.library_files(chapter)
    }
    paper = {f"papers/ewn_inductive_bias/{name}.py" for name in ("training", "theory")}
    assert paper <= reached
    assert not {"book/_pages.py", "book/build.py", "book/runner.py", "cli.py"} & reached
