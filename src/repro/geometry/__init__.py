"""The shape of the loss where training ends.

==============================  ============================================================
``repro.geometry.curvature``    Hessians of many networks at once: eigenvalues, trace
``repro.geometry.noise``        how much noise on the weights raises the loss
==============================  ============================================================
"""

from repro.geometry.curvature import Hessian, eigenvalues, trace
from repro.geometry.noise import noise_sensitivity

__all__ = ["Hessian", "eigenvalues", "noise_sensitivity", "trace"]
