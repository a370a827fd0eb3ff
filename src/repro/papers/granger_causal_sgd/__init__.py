"""A Granger-causal perspective on gradient descent with application to pruning (Shah et al., arXiv:2412.03035).

The chapter ``granger-causal-sgd`` calls the functions of ``identity``, ``granger_step``, ``anatomy``, ``alpha_sweep``,
``comparisons``, ``phase_shift``, ``flatness`` and ``association``, one an experiment; the other modules hold what these
are made of. The text of the paper beyond its abstract was not at hand; equations and settings follow its authors' code
of September 2024.

=================  ==================================================================================
``settings``       networks, data and training; the networks that all runs start from
``trace``          every step of a stretch of gradient descent, with the loss changes
``moments``        what is left of a trace when only means are kept, for networks of any size
``identity``       the loss change as a sum of squared steps (G1, G11)
``granger_step``   whether the step Granger-causes the loss change; the placebo (G2, K1, K2)
``tg_lasso``       the regression of the authors' code
``screening``      covariance and energy, one number a weight
``ridge``          ridge regression through its dual
``lasso``          a Lasso that has converged
``anatomy``        held-out fits, stability and overlap of masks (G3, G4)
``phases``         stretches of training and seeds derived for them
``pruning_loop``   log, regress, delete, rewind
``fine_tuning``    training after pruning with the authors' rule for when to stop
``alpha_sweep``    the penalty as a dial (G6, G10, G12)
``arms``           masks of equal sparsity for different reasons
``comparisons``    accuracy against sparsity, all arms (G5, K3)
``phase_shift``    a step or a slope? (G6, G7)
``stopping``       training to equal epochs and to equal loss
``flatness``       curvature and noise in four protocols (G8)
``association``    rank correlation of flatness with accuracy (G9)
``full_scale``     runs at the authors' settings, resumable
``plots``          the chapter's pictures
=================  ==================================================================================
"""
