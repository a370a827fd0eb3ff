"""Statistics of many time series at once: each row of an ``(N, T)`` array is a series.

>>> import numpy as np
>>> from repro.series import granger_test, holm
>>> from repro.series import iaaft, lyapunov_tisean
>>> rng = np.random.default_rng(0)
>>> walks = rng.standard_normal((100, 200)).cumsum(axis=1)
>>> # does any of 99 walks help to predict the first?
>>> tests = granger_test(walks[0], walks[1:], lag=range(1, 6))
>>> int((holm(tests.p_value).min(axis=1) < 0.05).sum())
2
>>> both = walks, iaaft(walks, rng=0)
>>> exponents = [lyapunov_tisean(x, forward_steps=3).exponent for x in both]
>>> [round(float(each.mean()), 2) for each in exponents]
[1.26, 1.33]

Surrogates keep some properties of a series and destroy the others: what a test finds in them, it finds without a cause.

=================================  ===================================================================
``shuffled``                       keeps the values
``circularly_shifted``             keeps the values and their order, up to one seam
``iaaft``                          keeps the values and, nearly, the circular autocorrelation
``of_increments``                  any of these, made of the increments
=================================  ===================================================================
"""

from repro.series.granger import GrangerResult, Status, granger_test
from repro.series.lyapunov import LyapunovResult, LyapunovStatus, lyapunov_rosenstein, lyapunov_tisean
from repro.series.multiplicity import benjamini_hochberg, holm
from repro.series.surrogates import circularly_shifted, iaaft, of_increments, shuffled

__all__ = [
    "GrangerResult",
    "LyapunovResult",
    "LyapunovStatus",
    "Status",
    "benjamini_hochberg",
    "circularly_shifted",
    "granger_test",
    "holm",
    "iaaft",
    "lyapunov_rosenstein",
    "lyapunov_tisean",
    "of_increments",
    "shuffled",
]
