"""The library behind the book *What makes networks sparse? Four papers, rerun*.

======================  ==========================================================
``repro.learn``         train networks, reproducibly
``repro.prune``         take weights out, say what it cost
``repro.series``        does one time series help to predict another? how fast do its states drift apart?
``repro.papers``        one package a paper, named like its chapter
``repro.book``          from a notebook to the rendered book
``repro.base``          checks, intervals over seeds, files, finished runs: what all of the above use
======================  ==========================================================
"""

from repro import _torchvision as _torchvision  # from now on ``import torchvision`` works

__version__ = "0.1.0"
