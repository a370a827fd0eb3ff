"""Checks: a sound book has no problem, and each fault is found where it is."""

import re
from pathlib import Path

import pytest
from ledger_book import notebook, result, write_notebook
from made_claims import chapter, claim, deciding_test
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from repro.book import checks, results
from repro.book.checks import _HEADINGS, _code


def after(book, change=lambda content: None, **replaced):
    """The problems after ``change`` was made to the notebook."""
    content = notebook(**replaced)
    change(content)
    write_notebook(book.root, content)
    return checks.run(book)


def test_headings_missing_and_out_of_order(book):
    name, cell = "book/chapters/toy.ipynb", len(notebook().cells) - 1
    assert after(book, lambda nb: nb.cells.pop()) == [
        f"{name}: after 'Exercises' comes 'nothing'; accepted: 'References'"
    ]
    assert after(book, lambda nb: nb.cells.insert(cell - 1, nb.cells.pop())) == [
        f"{name}, cell {cell - 1}: after 'What would change our mind' comes 'References'; accepted: 'Exercises'"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("## Experimens", "after 'References' comes 'Experimens'; accepted: 'nothing'"),
        ("# Second title", "2 titles (# ...); accepted: one"),
        ("It was 0.93.", "0.93 is typed by hand"),
        ("![](a.png)", "the image 'a.png' has no alternative text"),
        ("```{figure} a.png\nA caption\n```", "the image 'a.png' has no alternative text"),
        ("{cite:t}`nobody2021`", "'nobody2021' is cited, but is not in references.bib; did you mean"),
    ],
)
def test_faults_of_the_text(book, text, expected):
    cell = len(notebook().cells)
    (problem,) = after(book, lambda nb: nb.cells.append(new_markdown_cell(text)))
    assert problem.startswith(f"book/chapters/toy.ipynb, cell {cell}: {expected}")


FINE = "\n\n".join(
    [
        "The paper has 98.34, the threshold is 0.5, in $x = 0.7$.",
        "![a line](a.png)",
        "```{figure} a.png\n:alt: a line\n\nA caption\n```",
        "### A section of its own",
        "```{code-block} markdown\n{cite:t}`nobody2021`\n```",
        "{cite:t}`nobody2020` and {cite}`him <nobody2020>` and {ref}`nobody <x>`",
    ],
)


def _append(source):
    return lambda nb: nb.cells.append(new_code_cell(source))


FINE_CODE = "%matplotlib inline\n!ls\n\ndef f(x):\n    return x\n\nlegend = f('T1')"


def test_a_sound_book(book):
    assert checks.run(book) == []
    for cell in (new_markdown_cell(FINE), *map(new_code_cell, (FINE_CODE, "%%time\nthis is not python"))):
        assert after(book, lambda nb, cell=cell: nb.cells.append(cell)) == []


CELL = 'profile: str = "quick"\nn: float = (\n    None\n)'


def _set(change):
    """Change the notebook and its cell of parameters."""
    return lambda nb: change(nb, next(cell for cell in nb.cells if cell.cell_type == "code"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_append("class A:\n    def f(self):\n" + "        x = 1\n" * 8), "function f has 9 lines"),
        (_append("x = = 1"), "not Python"),
        (_append("plt.show()"), "use figures.show"),
        (_append('ledger.measure("T1", test="fals", values=v)'), "no test of claim T1 called 'fals'"),
        (_set(lambda nb, cell: cell.outputs.append(new_output("stream", text="x"))), "outputs are committed"),
        (_set(lambda nb, cell: cell.metadata.pop("tags")), "the first parameter, in a cell"),
        # what a formatter makes of a long line: papermill reads one line a parameter
        (_set(lambda nb, cell: cell.update(source=CELL)), "line 2 of the parameters cell"),
        (_set(lambda nb, cell: nb.metadata.kernelspec.update(name="torch")), "kernelspec.name is 'torch'"),
        (_set(lambda nb, cell: nb.metadata.pop("language_info")), "language_info.file_extension is None"),
        (_set(lambda nb, cell: nb.cells[-1].update(attachments={"a.png": {}})), "attachment 'a.png'"),
    ],
)
def test_faults_of_the_notebook(book, change, expected):
    (problem,) = after(book, change)
    assert expected in problem
    assert problem.startswith("book/chapters/toy.ipynb")


CODE = """
ledger.measure("T1", test="dense", values=x)
for variant in variants:
    ledger.measure("T2", test=f"{variant}-masks", values=x)
for name, values in {"one": x, "two": y}.items():
    ledger.measure("T3", test=name, values=values)
ledger.not_tested("T4", "no data")
ledger.measure("T5", test=variant.replace("_", "-"), values=x)
"""


def test_a_deciding_test_that_the_notebook_never_measures():
    tests = {"T1": "dense masks one", "T2": "ft-masks dense", "T3": "two one", "T4": "any", "T5": "any"}
    claims = chapter(*(claim(one, *map(deciding_test, names.split())) for one, names in tests.items()))
    told = [message for _, message in _code(new_notebook(cells=[new_code_cell(CODE)]), claims)]
    never = [("T1", "masks"), ("T1", "one"), ("T2", "dense")]
    expected = [f"claim {one}: its deciding test {name} is never measured" for one, name in never]
    assert [line.partition(";")[0] for line in told] == expected


def test_a_file_that_cannot_be_read_is_one_problem_and_the_rest_is_still_checked(book):
    book.claims_file("toy").write_text("chapter: [")
    problems = after(book, lambda nb: nb.cells.pop())
    assert [p.split(":")[0] for p in problems] == ["book/claims/toy.yml", "book/chapters/toy.ipynb"]
    (book.root / "book/references.bib").write_text("@misc{a, title = {")
    assert "references.bib cannot be read: " in checks.run(book)[0]
    (book.root / "book/references.bib").unlink()
    book.notebook("toy").write_text("{")
    assert [p.split(":")[0] for p in checks.run(book)] == [
        *("book/references.bib", "book/claims/toy.yml", "book/chapters/toy.ipynb")
    ]


def test_pages_are_checked_for_images_and_citations(book):
    (book.root / "book/index.md").write_text("# Toy\n\n![](a.png) {cite}`nope`\n")
    assert [p.split(": ")[0] for p in checks.run(book)] == ["book/index.md"] * 2


def test_results_that_do_not_fit_their_claims(book):
    path = book.results_file("toy", "quick")
    results.write(path, result(book, t1=[0.9, 0.91, 0.92]))
    path.write_text(re.sub(r"0\.9(?=,|1,|2\n)", "0.1", path.read_text()))
    assert "its values say reproduced" in checks.run(book)[0]
    results.write(path, result(book, profile="paper"))
    assert "it should be called toy.paper.json" in checks.run(book)[0]


def test_the_fixed_headings_are_those_of_the_guide():
    guide = (Path(__file__).parents[2] / "book/reading-guide.md").read_text()
    order = [guide.find(f"**{heading}**") for heading in _HEADINGS if f"**{heading}**" in guide]
    assert len(order) >= 10
    assert order == sorted(order)
