"""Inductive bias of gradient descent for weight-normalised networks (Morwani & Ramaswamy, arXiv:2010.12909).

The chapter ``ewn-inductive-bias`` calls the functions of ``flow_experiments`` (theory), ``training_experiments``
(networks), ``comparisons`` and ``plots``; the other modules hold what these are made of.

========================  =========================================================================
``synthetic``             the paper's small data sets and initial weights
``relations``             node lengths, directions, spreads, sparsity
``rates``                 exponents of the loss, the finite-time bound
``flow_identity``         flows against their prediction, descent against flow (E1 to E3)
``lin_sep_flows``         Lin-Sep flows and what they say about nodes (E4 to E6, E8, E12)
``two_weights``           Simple-Traj, the solvable case (E7)
``depth_experiments``     rate exponents and loss curves by depth (E10, E11)
``flow_experiments``      all of these experiments in one place
``parametrizations``      weight normalisations as PyTorch parametrisations
``log_losses``            multi-class losses as logarithms, in PyTorch
``descent``               gradient descent to vanishing loss
``pruning``               removing neurons by length
``synthetic_descent``     Lin-Sep and Simple-Traj by gradient descent (E4 to E7)
``xor``                   how many neurons stay long (E9)
``image_settings``        networks, data and step rules of the image experiments
``image_experiments``     training on images, then pruning (E13 to E18)
``training_experiments``  all of these experiments in one place
``comparisons``           differences between methods, seed by seed
``authors_logs``          numbers from the authors' logs, to stand beside ours
``plots``                 the chapter's pictures
========================  =========================================================================
"""
