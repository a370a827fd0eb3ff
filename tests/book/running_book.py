"""A tiny book whose chapter really runs, and can be told to fail in every way that chapters fail."""

import ledger_book
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from repro.book import claims, parameters
from repro.book.sweep import grid

CLAIMS = """
chapter: toy
paper: {title: A toy, authors: "A. Nobody", key: nobody2020}
budget: {smoke: &each {seconds: 600, memory_mb: 600}, quick: *each, full: *each, paper: *each}
profiles:
  smoke: {n: 1, seed: 0}
  quick: {n: 7, seed: 500000}
  full: {n: 8, seed: 10000}
  paper: {n: 8, seed: 10000}
claims:
  - id: T1
    statement: The values are below one half.
    where: section 2
    kind: theory
    deciding:
      - {name: low, metric: the value, unit: none, claim: below 0.5, margin: 0.1, why: fixed, seeds: n, scale: small}
"""
PARAMETERS = """profile: str = "quick"  # {smoke, quick, full, paper} how much to run
seed: int = None  # [0, 1000000] first seed
n: int = None  # [1, 9] how many seeds
level: float = 0.1  # [0, 1] the value that every seed measures
mode: str = "fine"  # {fine, raise, magic, kill, exit, sleep, eat, flood, endless} how the second cell ends"""
MARKS = "RUNNING_MARKS"
# a run marks in the file of that name when it begins and ends, for those who count
WORK = f"""import os, signal, sys, time
def mark(what):
    if "{MARKS}" in os.environ:
        with open(os.environ["{MARKS}"], "a") as file:
            file.write(f"{{what}} {{seed}}\\n")
        time.sleep(0.5)
mark("begun")
print("working", file=sys.stderr)
if mode == "raise":
    raise ValueError("the flux capacitor is empty")
if mode == "magic":
    get_ipython().run_line_magic("nonsense", "")
if mode == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "exit":
    sys.exit()
if mode == "sleep":
    open("asleep", "w").close()
    time.sleep(3000)
if mode == "eat":
    hoard = [bytearray(50_000_000) for _ in range(20)]
    time.sleep(3000)
if mode == "flood":
    for _ in range(40):
        print("drop " * 100_000)
while mode == "endless":
    print("drop " * 100_000)"""
# what a chapter's ledger shows, written out: the library that makes one takes longer to import than the rest to run
LEDGER = """from IPython.display import display
measured = {"claim": "T1", "test": "low", "values": [level + 0.001 * i for i in range(n)]}
shown = {"chapter": "toy", "profile": profile, "seed": seed, "measurements": [measured], "not_tested": {}}
mark("ended")
display({"application/vnd.repro.ledger+json": shown}, raw=True)"""
REAL_LEDGER = """from repro.book import parameters
from repro.book.ledger import Ledger
settings = parameters.resolve("toy", globals())
ledger = Ledger("toy", settings.profile, settings.seed)
ledger.measure("T1", test="low", values=[settings.level + 0.001 * i for i in range(settings.n)])
ledger"""


def make(folder, parameters=PARAMETERS, *code):
    """A book of one chapter, ``toy``, with these cells of code after its parameters."""
    book = ledger_book.make(folder, CLAIMS)
    pages = ("chapters/toy", "reading-guide", "scoreboard", "status")
    contents = "".join(f"- file: book/{page}\n" for page in pages)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{contents}")
    (folder / "_config.yml").write_text(
        "title: Toy\nonly_build_toc_files: true\nsphinx:\n  extra_extensions: [repro.book.sphinx_ext]\n"
        "  config: {suppress_warnings: [mystnb.unknown_mime_type], mathjax_path: mathjax/tex-mml-chtml.js}\n"
    )
    (folder / "book/reading-guide.md").write_text("# Guide\n")
    (folder / "README.md").write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    cells = [
        new_markdown_cell("# A toy chapter\n\n## Experiments"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *map(new_code_cell, code or (WORK, LEDGER)),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    ledger_book.write_notebook(folder, new_notebook(cells=cells, metadata=kernel))
    return book


def points(book, *axes):
    """The points of a sweep of the toy, by id."""
    profiles = claims.load(book.claims_file("toy")).profiles
    found = grid.points(parameters.declared(book.notebook("toy")), profiles, axes, where="toy.yml")
    return {grid.point_id(values): values for values in found}
