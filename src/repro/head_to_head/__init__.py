"""Head to head: ways to prune, the four papers' among them, on one task with one budget.

The chapter is ``head-to-head``.

===============  ===============================================================================
``methods``      every way to prune, with one face: networks, data and a budget in, masks out
``scores``       what is known of a weight before training: SNIP, GraSP, SynFlow
``tasks``        data, networks and budgets; data of one's own
``experiments``  seeds in, tables out: the comparison, its tuning
``measures``     tables in, one number a seed out
``plots``        the chapter's pictures
===============  ===============================================================================
"""

from repro.head_to_head.measures import compare
from repro.head_to_head.methods import METHODS, Budget, Candidates, Method, nested
from repro.head_to_head.tasks import TASKS, Task, own_data

__all__ = ["METHODS", "TASKS", "Budget", "Candidates", "Method", "Task", "compare", "nested", "own_data"]
