"""Inductive bias of gradient descent for weight-normalized networks (Morwani & Ramaswamy, arXiv:2010.12909).

===============  ==============================================================================
``method``       weight normalizations for any module, as PyTorch parametrizations
``theory``       the chain rule, the flow's metric, exact solutions; flows in time, by Euler steps, by the loss
``training``     gradient descent to vanishing loss: steps kept or undone, losses as logarithms
``settings``     data, networks and step rules of the image experiments
``experiments``  one function a group of claims: seeds in, a table out
``measures``     a table in, one number a seed out
``plots``        the chapter's pictures
``authors``      numbers from the authors' logs, and how ours agree with them
===============  ==============================================================================
"""

from repro.papers.ewn_inductive_bias.method import (
    ExponentialWeightNorm,
    StandardWeightNorm,
    fold,
    normalize_weights,
)

__all__ = ["ExponentialWeightNorm", "StandardWeightNorm", "fold", "normalize_weights"]
