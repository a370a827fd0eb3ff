"""Statistics of many time series at once: each row of an ``(N, T)`` array is a series.

=================================  ===================================================================
``repro.series.granger``           does one series help to predict another? F, p-value, N pairs at once
``repro.series.lyapunov``          how fast do neighbouring states of a series drift apart?
``repro.series.surrogates``        series that keep some properties of the data and have no cause in them
``repro.series.multiplicity``      p-values of many tests: corrections
=================================  ===================================================================
"""
