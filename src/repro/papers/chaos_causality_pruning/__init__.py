"""Chaos-causality pruning, LEGCNet-FT and LEGCNet-PT (Sahu et al., arXiv:2308.09955).

===============  =============================================================================
``method``       one exponent a weight and window; causal, non-causal, untestable; the mask
``perceptrons``  many small networks as one stack, trained one example at a time; retraining
``training``     dense training under observation, and the masks that come of it
``settings``     data, networks, training
``experiments``  one function a group of claims: seeds in, a table out
``measures``     a table in, one number a seed out
``plots``        the chapter's pictures
``authors``      what the paper prints and its authors publish, and their rows once more
===============  =============================================================================
"""
