"""Mask in the Mirror: Implicit Sparsification (Jacobs & Burkholz, ICLR 2025; arXiv:2408.09966).

Equations and settings follow the first version of the paper, whose text was at hand without its figures; algorithm 1
is that of the second. The chapter is ``implicit-sparsification``.

===========================  ========================================================================
``regression``               the sparse regression on which theory and diagonal networks are tried
``flow_experiments``         factors against mirror flow, iterates against least potential (M1, M3)
``commuting``                which masks and penalties commute (M2, M17)
``bias_experiments``         from L2 to L1, and towards the truth (M4, M5)
``convergence_experiments``  interpolation, the Lasso, late rates (M6, M7)
``theory_plots``             pictures of these
``schedules``                strengths by step or epoch
``diagonal_families``        ways to write, start and penalise a diagonal linear network
``diagonal``                 gradient descent on many of them at once
``diagonal_experiments``     equal grids for all families; mini-batches
``diagonal_comparisons``     what the grids decide (M8 to M11)
``diagonal_plots``           pictures of these
``settings``                 networks and data of the pruning experiments
``factors``                  weights written as products, powers, thresholds, soft masks
``penalties``                what is added to the gradient
``controllers``              how strong the penalty is in each epoch; algorithm 1
``methods``                  the methods compared, as data
``fitting``                  training: all strengths and seeds of a method at once
``one_shot``                 pruning without training again (M12 to M15, M18)
``iterative``                pruning in cycles with rewinding (M16)
``full_scale``               runs at the paper's settings, resumable
``pruning_plots``            pictures of these
===========================  ========================================================================
"""
