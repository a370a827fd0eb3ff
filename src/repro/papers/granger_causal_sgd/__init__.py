r"""A Granger-causal perspective on gradient descent with application to pruning (Shah et al., arXiv:2412.03035).

Log how every weight moves in plain SGD and what the loss does; keep the weights that a penalised regression of the one
on the other calls causal:

>>> from repro.learn import Ensemble, load, perceptron
>>> networks = Ensemble([perceptron((4, 16, 3))])
>>> data = [load("iris", seed=0)]
>>> trace = log(networks, data, learning_rate=0.1, n_epochs=10,
...             batch_size=10, seeds=[0])
>>> changes = trace.loss_changes["same_batch"][0]
>>> coefficients = tg_lasso(trace.squares(0), changes, alpha=1e-6)
>>> masks = causal_pruning(networks, data, 1e-6, seeds=[0], n_iterations=2,
...                        learning_rate=0.1, batch_size=10)
>>> masks[-1].n_weights
112

The text of the paper beyond its abstract was not at hand; equations and settings follow its authors' code of September
2024.

===============  ====================================================================================================
``method``       Granger's test of a step, the regression of the authors' code and its ends, the loop of causal pruning
``training``     SGD with every step logged, and its first order; Adam after pruning, to two stops
``curvature``    how flat minima are: largest eigenvalues of the Hessian, noise on the weights
``experiments``  one function a claim group: starting networks in, a table out
``measures``     a table in, one number a seed out
``plots``        the chapter's pictures
``settings``     the chapter's data, networks and training, LeNet at the authors' settings
===============  ====================================================================================================
"""

from repro.papers.granger_causal_sgd.method import causal_pruning, step_test, tg_lasso
from repro.papers.granger_causal_sgd.training import Trace, log

__all__ = ["Trace", "causal_pruning", "log", "step_test", "tg_lasso"]
