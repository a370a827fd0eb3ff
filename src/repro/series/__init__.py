"""Statistics of many time series at once: each row of an ``(N, T)`` array is a series.

=================================  ===================================================================
``repro.series.granger``           does one series help to predict another? F, p-value, N pairs at once
``repro.series.lyapunov``          how fast do neighbouring states of a series drift apart?
``repro.series.surrogates``        series that keep some properties of the data and have no cause in them
``repro.series.multiplicity``      p-values of many tests: corrections
=================================  ===================================================================

What is public in them can be imported from here: ``from repro.series import granger_test, lyapunov_rosenstein``.
"""

from repro.series.granger import COLLINEAR_BELOW, GrangerResult, Status, granger_test
from repro.series.lyapunov import LyapunovResult, LyapunovStatus, lyapunov_rosenstein, lyapunov_tisean
from repro.series.multiplicity import Correction, benjamini_hochberg, holm, least_p, storey
from repro.series.surrogates import (
    block_bootstrapped,
    circularly_shifted,
    phase_randomized,
    phase_randomized_increments,
    same_increments_walk,
    shuffled,
    trend_matched_pairs,
)

__all__ = [
    "COLLINEAR_BELOW",
    "Correction",
    "GrangerResult",
    "LyapunovResult",
    "LyapunovStatus",
    "Status",
    "benjamini_hochberg",
    "block_bootstrapped",
    "circularly_shifted",
    "granger_test",
    "holm",
    "least_p",
    "lyapunov_rosenstein",
    "lyapunov_tisean",
    "phase_randomized",
    "phase_randomized_increments",
    "same_increments_walk",
    "shuffled",
    "storey",
    "trend_matched_pairs",
]
