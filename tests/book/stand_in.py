"""A small book with the real configuration, for tests that look at rendered pages.

The chapter is a stand-in: it holds one of everything that a real chapter shows (mathematics, a table wider
than a phone, a figure, verdicts, an exercise with a folded solution), so that pages can be tested in seconds.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]

NARRATIVE = r"""# A stand-in chapter

A sentence with the rare word *quokkaword*, so that a search has something to find, and mathematics that
needs an extension of MathJax: $\dot w_u = -\eta\,\|w_u\|^2\,\nabla_{w_u}\mathcal L$ and
$\boldsymbol\ell/\|\boldsymbol\ell\|$.

$$
\frac{\mathrm d}{\mathrm dt}\log\|w_u\| = -\eta\,\langle w_u, g_u\rangle
$$ (stand-in-radial)

Equation {eq}`stand-in-radial` is quoted here. The [reading guide](reading-guide.md) explains the verdicts.
"""

TABLE = (
    "<table class='dataframe'><caption>Verdicts of a stand-in</caption>"
    "<thead><tr>{head}</tr></thead><tbody><tr>{row}</tr></tbody></table>"
)

EXERCISE = """## Exercises

```{exercise}
:label: stand-in-exercise

What does the square of the length do to the growth of a long neuron?
```

```{solution} stand-in-exercise
:class: dropdown

It makes it faster.
```
"""


def _verdict_table() -> str:
    words = ["reproduced", "partly", "undecided", "not reproduced", "not tested"]
    head = "".join(f"<th scope='col'>Column number {i}</th>" for i in range(9))
    cells = [f"<span class='verdict verdict-{word.replace(' ', '-')}'>{word}</span>" for word in words]
    row = "".join(f"<td>{cell}</td>" for cell in cells + ["0.123456789012345678"] * 4)
    return TABLE.format(head=head, row=row)


def _figure() -> str:
    import base64
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1, 2], [0, 1, 4], label="stand-in")
    axes.set(xlabel="steps", ylabel="length", title="A figure of the stand-in")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return base64.b64encode(buffer.getvalue()).decode()


def chapter(name: str, up: str = "../") -> nbformat.NotebookNode:
    """The stand-in chapter with its outputs, as a run would leave it; labels are one's own in the whole book.

    ``up`` leads from the notebook's folder to that of the reading guide.
    """
    narrative = NARRATIVE.replace("stand-in-", f"{name}-").replace("(reading-guide", f"({up}reading-guide")
    figure = new_output(
        "display_data",
        {"image/png": _figure(), "text/plain": "<Figure>"},
    )
    table = new_output(
        "execute_result", {"text/html": _verdict_table(), "text/plain": "table"}, execution_count=2
    )
    notebook = new_notebook(
        cells=[
            new_markdown_cell(narrative),
            new_code_cell(
                'profile: str = "quick"  # {smoke, quick, paper} how much to run',
                metadata={"tags": ["parameters"]},
                execution_count=1,
            ),
            new_code_cell("verdicts  # a table", outputs=[table], execution_count=2),
            new_code_cell(
                "print('a very long line of output', '-' * 200)",
                outputs=[
                    new_output("stream", name="stdout", text="a very long line of output " + "-" * 200 + "\n")
                ],
                execution_count=3,
            ),
            new_code_cell(
                "figure",
                outputs=[figure],
                execution_count=4,
                metadata={"mystnb": {"image": {"alt": "A rising line: length against steps"}}},
            ),
            new_markdown_cell(EXERCISE.replace("stand-in-", f"{name}-")),
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    return notebook


def make(folder: Path) -> Path:
    """Write the book's sources into ``folder``: real pages and configuration, stand-in chapters."""
    shutil.copy(ROOT / "_config.yml", folder)
    shutil.copy(ROOT / "_toc.yml", folder)
    shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("*.ipynb"))
    (folder / "book" / "chapters").mkdir(exist_ok=True)
    import yaml

    toc = yaml.safe_load((folder / "_toc.yml").read_text(encoding="utf-8"))
    for part in toc["parts"]:
        for entry in part["chapters"]:
            path = folder / entry["file"]
            if path.parent.name == "chapters":
                nbformat.write(chapter(path.name), path.with_suffix(".ipynb"))
            elif (ROOT / f"{entry['file']}.ipynb").is_file():
                nbformat.write(chapter(path.name, up=""), path.with_suffix(".ipynb"))
    config = yaml.safe_load((folder / "_config.yml").read_text(encoding="utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return folder


def build(folder: Path) -> Path:
    """Build the book in ``folder`` with every warning an error; return the folder of its pages."""
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command = [*jupyter_book, "build", "-n", "-W", "--keep-going", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(
            f"jupyter-book ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return folder / "_build" / "html"
