"""Chaos-causality pruning, LEGCNet-FT and LEGCNet-PT (Sahu et al., arXiv:2308.09955).

The chapter ``chaos-causality-pruning`` calls the functions of ``authors_runs`` (the published rows), ``experiments``
(the chapter's own runs), ``estimator``, ``twins`` and ``calibration`` (controls), ``measures``, ``plots`` and
``pruning_plots``; the other modules hold what these are made of.

====================  =============================================================================
``perceptrons``       many small networks as one stack: forward pass, gradient, update
``descent``           plain stochastic gradient descent on the stack; accuracy, F1
``windows``           one exponent a weight and window, recorded during training
``decisions``         the paper's rule and honest ones: causal, non-causal, untestable
``retraining``        from the same initial weights under a mask, until a benchmark is reached
``tabular``           the tables: embedded ones and the paper's files, the authors' split and an honest one
``settings``          networks and training of the chapter's own runs
``observation``       dense training with recorders; a network, a stranger, a nudged copy
``arms``              masks of equal size, chosen for different reasons
``comparisons``       decisions with counterparts, retraining, deletion, overlaps (C1 to C8, C15)
``rankings``          which features and spectra survive pruning (C9, C10)
``attributions``      Shapley values of many small networks
``spectra``           power laws fitted to the spectra of layers
``sparsity``          accuracy against sparsity
``experiments``       all of these runs in one place
``measures``          from tables of runs to one number a seed
``trajectories``      the whole path of one weight
``processes``         series with known exponents
``estimator``         what the paper's exponent says of them, and of surrogates of weights (C5, K4)
``twins``             runs that differ by a nudge (C5, C13)
``calibration``       what the rules say of independent series (K2)
``agreement``         our statistics beside statsmodels and nolds (K5)
``published``         the paper's tables, masks and settings
``authors_runs``      the published rows, run again (K1)
``printed_rows``      these rows beside the printed ones
``plots``             pictures of trajectories, exponents and decisions
``pruning_plots``     pictures of what pruning does
``labels``            names that tables and pictures show
====================  =============================================================================
"""
