"""A Granger-causal perspective on gradient descent with application to pruning (arXiv 2412.03035)."""
