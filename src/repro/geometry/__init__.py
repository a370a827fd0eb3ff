"""The shape of the loss: potentials and mirror flows, and curvature where training ends.

====================================  ============================================================
``repro.geometry.curvature``          Hessians of many networks at once: eigenvalues, trace
``repro.geometry.potentials``         the hyperbolic entropy behind a product of factors
``repro.geometry.strengths``          strengths of weight decay over time, and their dose
``repro.geometry.mirror_flows``       the flow of the factors, as a mirror flow and in its dual
``repro.geometry.interpolators``      least potential, least L1 and least L2 norm; the Lasso
``repro.geometry.noise``              how much noise on the weights raises the loss
====================================  ============================================================
"""

from repro.geometry.curvature import Hessian, eigenvalues, trace
from repro.geometry.noise import noise_sensitivity

__all__ = ["Hessian", "eigenvalues", "noise_sensitivity", "trace"]
