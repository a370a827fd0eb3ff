"""A small book with the real configuration, for tests that look at rendered pages.

Its chapter holds one of everything that a real chapter shows (mathematics, the ledger, a figure, a line wider than
a phone, an exercise with a folded solution), so that pages can be tested in a minute.
"""

import shutil
from pathlib import Path

import ledger_book
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from repro.book import build, results
from repro.book.layout import Book

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
    **dict.fromkeys(("scoreboard", "status"), "# Made by the build"),
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
CODE = (
    "from repro.book.ledger import Ledger\nledger = Ledger('toy', profile, 500_000)\n"
    "ledger.measure('T1', test='falls', values=[0.1 + k / 200 for k in range(10)])\nledger",
    "from repro import base\nfrom repro.base import t_interval\nt_interval([1, 2]); base.t_interval([1, 2])",
    "print('-' * 200)",
    "import matplotlib.pyplot as plt\nfrom repro.book import figures\nfigures.theme('toy')\n"
    "figure, axes = plt.subplots()\naxes.plot([0, 1, 2], [0, 1, 4])\n"
    "figures.show(figure, caption='A line, $x<y$.', alt='A rising line', source=t_interval)",
)


def made(folder):
    """Write the book's sources into ``folder``: real configuration, styles and scripts, stand-in pages; build it.

    Returns the folder of its pages.
    """
    book = ledger_book.make(folder)
    for name in ("_config.yml", "CITATION.cff"):
        shutil.copy2(ROOT / name, folder)
    for name in ("_static", "_templates"):
        shutil.copytree(ROOT / "book" / name, folder / "book" / name)
    (folder / "book/api").mkdir()
    for name, text in PAGES.items():
        (folder / f"book/{name}.md").write_text(text + "\n", encoding="utf-8")
    (folder / "_toc.yml").write_text(TOC)
    results.write(book.results_file("toy", "quick"), ledger_book.result(book))
    parameters = new_code_cell(ledger_book.PARAMETERS, metadata={"tags": ["parameters"]})
    cells = [new_markdown_cell(NARRATIVE), parameters, *map(new_code_cell, CODE), new_markdown_cell(EXERCISE)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    ledger_book.write_notebook(folder, new_notebook(cells=cells, metadata={"kernelspec": kernel}))
    return build.build(Book(folder)).parent
