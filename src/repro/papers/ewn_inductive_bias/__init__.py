"""Inductive bias of gradient descent for weight-normalised networks (Morwani & Ramaswamy, arXiv:2010.12909).

The chapter ``ewn-inductive-bias`` calls the functions of ``flow_experiments`` (theory) and ``experiments``
(networks); the other modules hold what these are made of.

=====================  =========================================================================
``synthetic``          the paper's small data sets and initial weights
``relations``          node lengths, directions, spreads, sparsity
``rates``              exponents of the loss, the finite-time bound
``flow_identity``      flows against their prediction, descent against flow (E1 to E3)
``lin_sep_flows``      Lin-Sep flows and what they say about nodes (E4 to E6, E8, E12)
``two_weights``        Simple-Traj, the solvable case (E7)
``depth_experiments``  rate exponents and loss curves by depth (E10, E11)
``flow_experiments``   all of these experiments in one place
``parametrizations``   weight normalisations as PyTorch parametrisations
``log_losses``         multi-class losses as logarithms, in PyTorch
``descent``            gradient descent to vanishing loss
``pruning``            removing neurons by length
``experiments``        XOR and image experiments (E9, E13 to E18)
=====================  =========================================================================
"""
