"""Gradient flows: the paths that training follows in the limit of small steps.

====================================  ============================================================
``repro.geometry.homogeneous``        bias-free perceptrons in NumPy, hand-written gradients
``repro.geometry.log_loss``           exponential and logistic loss as logarithms, no underflow
``repro.geometry.parametrizations``   plain, standard and exponential weight normalisation
``repro.geometry.flows``              flows in ordinary time, Euler steps, conserved quantities
``repro.geometry.loss_clock``         flows with minus the log of the loss as their clock
``repro.geometry.packing``            lists of arrays as one vector
====================================  ============================================================
"""

from repro.geometry.flows import FlowPath, euler_steps, layer_balances, parameter_flow, weight_flow
from repro.geometry.homogeneous import BinaryProblem, Perceptron
from repro.geometry.loss_clock import ClockedPath, loss_clock
from repro.geometry.parametrizations import EWN, PLAIN, SWN, Parametrization, parametrization

__all__ = [
    "EWN",
    "PLAIN",
    "SWN",
    "BinaryProblem",
    "ClockedPath",
    "FlowPath",
    "Parametrization",
    "Perceptron",
    "euler_steps",
    "layer_balances",
    "loss_clock",
    "parameter_flow",
    "parametrization",
    "weight_flow",
]
