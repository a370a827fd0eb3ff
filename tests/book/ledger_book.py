"""A tiny book with claims of every kind, for the tests of the ledger, the pages and the checks."""

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from repro.book import answers, claims, results
from repro.book.checks import _HEADINGS
from repro.book.layout import Book

CLAIMS = """
chapter: toy
paper: {title: A toy, authors: "A. Nobody", arxiv: "2001.00001", key: nobody2020}
budget:
  smoke: {seconds: 60, memory_mb: 500}
  quick: {seconds: 120, memory_mb: 500}
  full: {seconds: 3600, memory_mb: 500}
  paper: {seconds: 3600, memory_mb: 5000}
profiles:
  smoke: {n: 1, seed: 0}
  quick: {n: 10, seed: 500000}
  full: {n: 20, seed: 10000}
  paper: {n: 20, seed: 10000}
quoted: [98.34]
claims:
  - id: T1
    statement: The loss falls below $10^{-6}$ when $a<b$ & all is <well>.
    where: section 2
    kind: theory
    paper_value: null
    headline: true
    deciding:
      - name: falls
        metric: the loss $L$
        unit: nats
        claim: below 0.5
        margin: 0.2
        why: it is fixed
        sd: 0.05
        seeds: n
        scale: small
  - id: T2
    statement: It helps on two sets.
    where: table 1
    kind: empirical
    paper_value: 98.34
    paper_value_is: printed in the table
    together: readings
    deciding:
      - {name: first, metric: gain, unit: points, claim: above 0, margin: 0.5, why: better, seeds: n, scale: small}
      - {name: second, metric: gain, unit: points, claim: above 0, margin: 0.5, why: better, seeds: n, scale: small}
      - name: large
        metric: gain
        unit: points
        claim: above 0
        margin: 0.5
        why: better
        seeds: n
        scale: paper
        profiles: [paper]
        otherwise: needs a GPU
    supporting:
      - {name: beside, metric: gain of another, unit: points, scale: small}
  - id: T3
    statement: Nothing where nothing is.
    where: own control
    kind: control
    deciding:
      - {name: share, metric: "hits?", unit: none, claim: below 0.4, margin: 0.2, why: chance, statistic: share,
         seeds: n, scale: small}
"""

PARAMETERS = (
    'profile: str = "quick"  # {smoke, quick, full, paper} how much to run\n'
    "seed: int = None  # [0, 1000000] first seed\nn: int = None  # [1, 30] how many"
)
MEASURE = """ledger.measure("T1", test="falls", values=v)
for name in ("first", "second", "large", "beside"):
    ledger.measure("T2", test=name, values=v)
ledger.not_tested("T3", "no time")"""


def make(folder, claims=CLAIMS):
    """A book with one chapter, ``toy``, whose checks find nothing."""
    for part in ("book/chapters", "book/claims", "book/results"):
        (folder / part).mkdir(parents=True)
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nchapters:\n  - file: book/chapters/toy\n"
    )
    (folder / "_config.yml").write_text("repository:\n  url: https://example.org/toy/\n")
    (folder / "book/index.md").write_text("# Toy\n")
    (folder / "book/references.bib").write_text("@misc{nobody2020, title = {A toy}, year = {2020}}\n")
    (folder / "book/claims/toy.yml").write_text(claims)
    write_notebook(folder, notebook())
    return Book(folder)


def notebook(**replaced):
    """The chapter's notebook; ``replaced`` gives other text under a heading, by its first word in lower case."""
    cells = [new_markdown_cell("# A toy chapter")]
    for heading in _HEADINGS:
        first = heading.split()[0].lower()
        text = "1. We changed it." if first == "differences" else "As {cite:p}`nobody2020` says."
        cells.append(new_markdown_cell(f"## {heading}\n\n{replaced.get(first, text)}"))
        if heading == "Parameters":
            cells.append(new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}))
        if heading == "Experiments":
            cells.append(new_code_cell(MEASURE))
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    metadata["language_info"] = {"name": "python", "file_extension": ".py"}
    return new_notebook(cells=cells, metadata=metadata)


def write_notebook(folder, content):
    nbformat.write(content, folder / "book/chapters/toy.ipynb")


T1 = (0.123456789, *(0.1 + 0.005 * k for k in range(9)))
GAINS = [1.0 + 0.1 * k for k in range(10)]


def result(book, t1=T1, profile="quick", **changes):
    """What a run of the chapter found, with other values for the test of T1, or with ``changes``."""
    values = {("T1", "falls"): list(t1), ("T2", "first"): GAINS, ("T2", "second"): GAINS}
    judged = answers.judge(claims.load(book.claims_file("toy")), values, profile)
    made = {"commit": "0123456789" * 4, "dirty": False, "versions": {"torch": "2.13.0", "numpy": "2"}}
    made["parameters"] = {"rate": 0.123456789, "seed": 500_000}
    cost = {"seconds": 61.3, "peak_memory_mb": 432.1, "finished": "2026-11-21T04:05:06"}
    cost["machine"] = {"system": "Linux", "architecture": "x86_64", "cores": 2, "accelerators": ["A | B"]}
    given = {"chapter": "toy", "profile": profile, "claims": judged, "provenance": made, "run": cost}
    return results.Results(**(given | changes))
