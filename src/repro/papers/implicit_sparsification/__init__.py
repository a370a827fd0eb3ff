"""Mask in the Mirror: Implicit Sparsification (Jacobs & Burkholz, ICLR 2025; arXiv:2408.09966).

Equations and settings follow the first version of the paper, whose text was at hand without its figures; algorithm 1
is that of the second. The chapter is ``implicit-sparsification``.

===============  ===============================================================================
``method``       PILoT and the methods it is compared with, for networks and ensembles of one's own
``theory``       the flow as a mirror flow, its potential, and the points where it ends
``training``     all strengths and seeds of a method at once; cycles of pruning; diagonal networks
``experiments``  seeds in, tables out, a function a group of claims
``measures``     tables in, one number a seed out
``plots``        the chapter's pictures
``authors``      the paper's settings, and runs at its scale
``settings``     the sparse regression; data and networks
===============  ===============================================================================
"""
