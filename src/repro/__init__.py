"""The library behind the book *What makes networks sparse? Four papers, rerun*.

======================  ==========================================================
``repro.learn``         train networks, reproducibly
``repro.prune``         take weights out, say what it cost
``repro.geometry``      gradient flows and flatness
``repro.papers``        one package a paper, named like its chapter
``repro.book``          from a notebook to the rendered book
``repro.intervals``     confidence intervals, one place for all of the above
======================  ==========================================================
"""

__version__ = "0.1.0"
