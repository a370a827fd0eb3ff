"""The shape of the loss: flows that training follows in the limit of small steps, and curvature where it ends.

====================================  ============================================================
``repro.geometry.homogeneous``        bias-free perceptrons in NumPy, hand-written gradients
``repro.geometry.log_loss``           exponential and logistic loss as logarithms, no underflow
``repro.geometry.parametrizations``   plain, standard and exponential weight normalisation
``repro.geometry.flows``              flows in ordinary time, Euler steps, conserved quantities
``repro.geometry.loss_clock``         flows with minus the log of the loss as their clock
``repro.geometry.packing``            lists of arrays as one vector
``repro.geometry.curvature``          Hessians of many networks at once: eigenvalues, trace
``repro.geometry.potentials``         the hyperbolic entropy behind a product of factors
``repro.geometry.strengths``          strengths of weight decay over time, and their dose
``repro.geometry.mirror_flows``       the flow of the factors, as a mirror flow and in its dual
``repro.geometry.interpolators``      least potential, least L1 and least L2 norm; the Lasso
``repro.geometry.noise``              how much noise on the weights raises the loss
====================================  ============================================================
"""

from repro.geometry.curvature import Hessian, eigenvalues, trace
from repro.geometry.flows import FlowPath, euler_steps, layer_balances, parameter_flow, weight_flow
from repro.geometry.homogeneous import BinaryProblem, Perceptron
from repro.geometry.loss_clock import ClockedPath, loss_clock
from repro.geometry.noise import noise_sensitivity
from repro.geometry.parametrizations import EWN, PLAIN, SWN, Parametrization, parametrization

__all__ = [
    "EWN",
    "PLAIN",
    "SWN",
    "BinaryProblem",
    "ClockedPath",
    "FlowPath",
    "Hessian",
    "Parametrization",
    "Perceptron",
    "eigenvalues",
    "euler_steps",
    "layer_balances",
    "loss_clock",
    "noise_sensitivity",
    "parameter_flow",
    "parametrization",
    "trace",
    "weight_flow",
]
