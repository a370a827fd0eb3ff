"""Statistics of many time series at once."""
