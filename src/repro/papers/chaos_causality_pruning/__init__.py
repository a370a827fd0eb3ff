"""Chaos-causality pruning, LEGCNet-FT and LEGCNet-PT (Sahu et al., arXiv:2308.09955)."""
