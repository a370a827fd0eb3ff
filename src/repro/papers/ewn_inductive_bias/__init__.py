"""Inductive bias of gradient descent for weight-normalized networks (Morwani & Ramaswamy, arXiv:2010.12909).

===============  ==============================================================================
``method``       weight normalizations for any module, as PyTorch parametrizations
``theory``       the chain rule, the flow's metric, the two laws, exact solutions, rates
``flows``        gradient flows: in time, by Euler steps, with the loss as their clock
``training``     gradient descent to vanishing loss: steps kept or undone, losses as logarithms
``settings``     data, initial weights, networks, step rules
``experiments``  one function a group of claims: seeds in, a table out
``measures``     a table in, one number a seed out
``plots``        the chapter's pictures
``authors``      numbers from the authors' logs, to stand beside ours
===============  ==============================================================================
"""

from repro.papers.ewn_inductive_bias.method import (
    ExponentialWeightNorm,
    StandardWeightNorm,
    fold,
    normalize_weights,
)

__all__ = ["ExponentialWeightNorm", "StandardWeightNorm", "fold", "normalize_weights"]
