"""A small book with the real configuration, for tests that look at rendered pages.

Its chapter holds one of everything that a real chapter shows (mathematics, the ledger, a figure, a line wider than
a phone, an exercise with a folded solution), made by the library, so that pages can be tested in seconds.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import ledger_book
import matplotlib.pyplot as plt
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from repro.base import t_interval
from repro.book import _pages, figures, results
from repro.book.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]

TOC = """format: jb-book
root: book/index
parts:
  - caption: Reading the book
    chapters: [{file: book/reading-guide}, {file: book/scoreboard}, {file: book/glossary}]
  - caption: The papers
    numbered: true
    chapters: [{file: book/chapters/toy}]
  - caption: Behind the pages
    chapters: [{file: book/status}, {file: book/api, sections: [{file: book/api/base}]}]
"""
PAGES = {
    "index": "# What makes networks sparse?\n\nA stand-in. What is a verdict? See the {doc}`reading-guide`.\n\n"
    "<!-- answers: toy -->\n\n<!-- ruler -->",
    "reading-guide": "# Reading guide\n\nWhat a verdict means.",
    "glossary": "# Glossary\n\nWords.\n\n```{glossary}\nquokkaword\nquokka\n    A small animal.\n\n"
    "    [Exercises](chapters/toy.ipynb#exercises)\n```",
    "api": "# The library\n\n[`repro.base`](api/base.md) holds intervals.",
    "api/base": "# Intervals\n\n```{eval-rst}\n.. automodule:: repro.base\n   :members: t_interval\n```",
}
NARRATIVE = r"""# A stand-in chapter

A sentence with the rare word *quokkaword*, so that a search has something to find, and mathematics that
needs an extension of MathJax: $\dot w_u = -\eta\,\|w_u\|^2\,\nabla_{w_u}\mathcal L$ and
$\boldsymbol\ell/\|\boldsymbol\ell\|$.

$$
\frac{\mathrm d}{\mathrm dt}\log\|w_u\| = -\eta\,\langle w_u, g_u\rangle
$$ (stand-in-radial)

Equation {eq}`stand-in-radial` is quoted here. The [reading guide](../reading-guide.md) explains the verdicts, and
{cite:t}`nobody2020` the rest.
"""
EXERCISE = """## Exercises

```{exercise}
:label: stand-in-exercise

What does the square of the length do to the growth of a long neuron?
```

```{solution} stand-in-exercise
:class: dropdown

It makes it faster.
```

## References

```{bibliography}
:filter: docname in docnames
```
"""
USES = (
    "from repro import base\nfrom repro.base import t_interval\nt_interval([1, 2]); base.t_interval([1, 2])"
)


def _figure():
    figures.theme("toy")
    figure, axes = plt.subplots()
    axes.plot([0, 1, 2], [0, 1, 4])
    html = figures._figure_html(figure, "A line, $x<y$.", "A rising line", t_interval)
    plt.close(figure)
    return html


def _chapter(book):
    """The chapter with its outputs, as a run leaves it."""
    judged = Ledger("toy", "quick", 500_000, book)
    judged.measure("T1", test="falls", values=ledger_book.T1)
    outputs = {
        "ledger": new_output("execute_result", judged._repr_mimebundle_(), execution_count=1),
        USES: new_output("stream", name="stdout", text="an interval\n"),
        "print('-' * 200)": new_output("stream", name="stdout", text="-" * 200 + "\n"),
        "figures.show(figure)": new_output("display_data", {"text/html": _figure(), "text/plain": "figure"}),
    }
    shown = [new_code_cell(code, outputs=[output], execution_count=1) for code, output in outputs.items()]
    cells = [new_markdown_cell(NARRATIVE), *shown, new_markdown_cell(EXERCISE)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def make(folder):
    """Write the book's sources into ``folder``: real configuration, styles and scripts, stand-in pages."""
    book = ledger_book.make(folder)
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / "_toc.yml").write_text(TOC)
    for name in ("_static", "_templates"):
        shutil.copytree(ROOT / "book" / name, folder / "book" / name)
    (folder / "book/api").mkdir()
    shutil.copy2(ROOT / "CITATION.cff", folder)
    results.write(book.results_file("toy", "quick"), ledger_book.result(book))
    found = _pages.all_results(book)
    chapters = _pages.chapters(book, found)
    made = {"scoreboard": _pages.scoreboard(chapters), "status": _pages.status(book, found)}
    for name, text in (PAGES | made | {"index": _pages.landing(PAGES["index"], chapters)}).items():
        (folder / f"book/{name}.md").write_text(text + "\n", encoding="utf-8")
    ledger_book.write_notebook(folder, _pages.with_first_screen(chapters[0], _chapter(book), "quick"))
    return folder


def build(folder):
    """Build the book in ``folder`` with every warning an error; return the folder of its pages."""
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", "-n", "-W", "--keep-going", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return folder / "_build" / "html"
