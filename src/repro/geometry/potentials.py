r"""Hyperbolic entropy, the potential behind gradient flow on $x = m\odot w$, and the factors in closed form.

With a penalty $\alpha_t(\|m\|^2+\|w\|^2)$ on the factors and the dose $A=\int\alpha$, the flow of $x$ is a mirror
flow of $R_a$ with $a = \frac\beta2 e^{-4A}$, $\beta = m_0^2-w_0^2$. All functions act elementwise in float64,
broadcast, and hold their digits from $a = 10^{-30}$ to $10^{30}$.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.geometry._checks import broadcast, check_finite, check_positive, checked_arrays

__all__ = [
    "Factors",
    "bregman_divergence",
    "conjugate",
    "factors",
    "factors_at",
    "hessian",
    "hyperbolic_entropy",
    "inverse_hessian",
    "inverse_mirror_map",
    "mirror_map",
    "printed_scale",
]

Array = NDArray[np.float64]

_SERIES_TERMS = 9
"""Of $\\sinh\\delta-\\delta$ for $|\\delta|\\le1$: the first one left out is below 1e-20 of the first."""


def hyperbolic_entropy(x: ArrayLike, a: ArrayLike, c: ArrayLike = 0.0) -> Array:
    r"""Potential of every coordinate, $R_a(x) = \frac12\left[x\,\mathrm{arcsinh}\frac xa-\sqrt{x^2+a^2}-x\,c\right]$.

    Its sum over coordinates is the potential of the vector. The minimum, $-\frac a2\cosh c$, lies at
    $x = a\sinh c = e^{-4A}x_0$. For large $a$ the potential is $\frac1{4a}(x-a\sinh c)^2$ up to a constant, for small
    $a$ it is $\frac12\log\frac1a\,|x|$ to leading order. Not to be confused with twice this potential, which belongs to
    the clock $\tau = 2t$.

    Args:
        x: weights.
        a: scale $\frac\beta2e^{-4A}>0$, in units of the weights.
        c: centre $\mathrm{arcsinh}(x_0/a_0)=\log\frac{m_0+w_0}{m_0-w_0}$, no unit.

    Returns:
        Array of the broadcast shape.

    Raises:
        ValueError: a scale that is not positive and finite, a NaN, shapes that do not broadcast.
    """
    x, a, c = checked_arrays(x=x, a=a, c=c)
    return 0.5 * (x * (np.arcsinh(x / a) - c) - np.hypot(x, a))


def mirror_map(x: ArrayLike, a: ArrayLike, c: ArrayLike = 0.0) -> Array:
    r"""Gradient of the potential, $\mu = \nabla R_a(x) = \frac12\left[\mathrm{arcsinh}\frac xa-c\right]$.

    Along the flow it is $-L_t = -\int_0^t\nabla f$. Arguments and errors as for :func:`hyperbolic_entropy`.
    """
    x, a, c = checked_arrays(x=x, a=a, c=c)
    return 0.5 * (np.arcsinh(x / a) - c)


def inverse_mirror_map(mu: ArrayLike, a: ArrayLike, c: ArrayLike = 0.0) -> Array:
    r"""Weights of a dual state, $x = \nabla R_a^*(\mu) = a\sinh(2\mu+c)$.

    Args:
        mu: dual state $-\int\nabla f$.
        a, c: scale and centre, as for :func:`hyperbolic_entropy`.

    Raises:
        ValueError: as for :func:`hyperbolic_entropy`.
    """
    mu, a, c = checked_arrays(mu=mu, a=a, c=c)
    return _scaled_sinh(2 * mu + c, a)


def hessian(x: ArrayLike, a: ArrayLike) -> Array:
    r"""Second derivative of the potential, $\frac1{2\sqrt{x^2+a^2}}$; the matrix is diagonal, this is its diagonal."""
    x, a = checked_arrays(x=x, a=a)
    return 0.5 / np.hypot(x, a)


def inverse_hessian(x: ArrayLike, a: ArrayLike) -> Array:
    r"""Diagonal of $(\nabla^2R_a)^{-1}$, $2\sqrt{x^2+a^2} = m^2+w^2$: the speed of $x$ for a unit gradient."""
    x, a = checked_arrays(x=x, a=a)
    return 2 * np.hypot(x, a)


def conjugate(mu: ArrayLike, a: ArrayLike, c: ArrayLike = 0.0) -> Array:
    r"""Convex conjugate of every coordinate, $R_a^*(\mu) = \frac a2\cosh(2\mu+c)$.

    $R_a(x)+R_a^*(\mu)\ge x\mu$, with equality at $\mu = \nabla R_a(x)$. Arguments and errors as for
    :func:`inverse_mirror_map`.
    """
    mu, a, c = checked_arrays(mu=mu, a=a, c=c)
    return _scaled_cosh(2 * mu + c, a) / 2


def bregman_divergence(x: ArrayLike, y: ArrayLike, a: ArrayLike) -> Array:
    r"""Divergence of every coordinate, $D_a(x,y) = R_a(x)-R_a(y)-\nabla R_a(y)(x-y)\ge0$.

    With $x = a\sinh\theta$, $y = a\sinh\varphi$, $\delta=\theta-\varphi$ it is
    $\frac a2\left[\cosh\theta\,(\cosh\delta-1)-\sinh\theta\,(\sinh\delta-\delta)\right]$, which keeps its digits
    where the definition cancels. The centre drops out. Not symmetric: $y$ is the point of the gradient.

    Args:
        x, y: weights.
        a: scale, positive.

    Raises:
        ValueError: as for :func:`hyperbolic_entropy`.
    """
    x, y, a = checked_arrays(x=x, y=y, a=a)
    sqrt_x, sqrt_y = np.hypot(x, a), np.hypot(y, a)
    half_tanh = (x - y) / (sqrt_x + sqrt_y)
    near = np.abs(half_tanh) < 0.46  # |delta| < 1
    half_tanh = np.where(near, half_tanh, 0.0)
    delta = 2 * np.arctanh(half_tanh)
    close = sqrt_x * 2 * np.sinh(delta / 2) ** 2 - x * _sinh_minus(delta)
    distant = x * (np.arcsinh(x / a) - np.arcsinh(y / a)) - (sqrt_x - sqrt_y)
    return np.where(near, close, distant) / 2


@dataclass(frozen=True, eq=False)
class Factors:
    """Two factors of the weights $x = m\\odot w$, of one shape.

    Attributes:
        m: the mask, 0 or above at the start of training.
        w: the weights under the mask.

    Raises:
        ValueError: a value that is not finite, or two shapes.
    """

    m: Array
    w: Array

    def __post_init__(self) -> None:
        m, w = np.asarray(self.m, dtype=np.float64), np.asarray(self.w, dtype=np.float64)
        if m.shape != w.shape:
            raise ValueError(f"m and w must have one shape; got {m.shape} and {w.shape}")
        check_finite(m=m, w=w)
        object.__setattr__(self, "m", m)
        object.__setattr__(self, "w", w)

    @property
    def x(self) -> Array:
        r"""The weights $m\odot w$."""
        return self.m * self.w

    @property
    def scale(self) -> Array:
        r"""Scale of the potential, $a = \frac12(m^2-w^2)$.

        Where $a\ll|x|$ the factors agree in most of their digits and the difference has few left; then work from
        $\beta$.

        Raises:
            ValueError: where $|w|\ge m$: the potential is degenerate.
        """
        self._check_unbalanced()
        return 0.5 * (self.m - self.w) * (self.m + self.w)

    @property
    def centre(self) -> Array:
        r"""Centre of the potential, $c = \log\frac{m+w}{m-w}$; accuracy and errors as for ``scale``."""
        self._check_unbalanced()
        return np.log((self.m + self.w) / (self.m - self.w))

    def _check_unbalanced(self) -> None:
        if (bad := np.abs(self.w) >= self.m).any():
            m, w = self.m[bad].flat[0], self.w[bad].flat[0]
            raise ValueError(f"a potential needs |w| < m in every coordinate; got m = {m}, w = {w}")


def factors(x: ArrayLike, beta: ArrayLike) -> Factors:
    r"""Factors with $m\odot w = x$ and $m^2-w^2=\beta$: $m = \sqrt{\frac12(\beta+\sqrt{\beta^2+4x^2})}$, $w = x/m$.

    The potential then has scale $a_0=\beta/2$ and centre $\mathrm{arcsinh}(x/a_0)$. $\beta = 0$ is the balanced start,
    $m = |w| = \sqrt{|x|}$, which has no potential and keeps every sign for ever.

    Args:
        x: weights, any shape.
        beta: difference of the squares, 0 or above.

    Returns:
        ``Factors`` of the broadcast shape, $m\ge0$.

    Raises:
        ValueError: a negative or infinite beta, weights that are not finite.
    """
    x, beta = broadcast(x=x, beta=beta)
    check_finite(x=x, beta=beta)
    if (beta < 0).any():
        raise ValueError(f"beta = m^2 - w^2 must be 0 or above; got {beta[beta < 0].flat[0]}")
    m = np.sqrt((beta + np.hypot(beta, 2 * x)) / 2)
    return Factors(m, np.divide(x, m, out=np.zeros_like(m), where=m > 0))


def factors_at(start: Factors, L: ArrayLike, A: ArrayLike) -> Factors:
    r"""Factors after an integrated gradient L and a dose A, whatever the loss was.

    $m = (m_0\cosh L-w_0\sinh L)\,e^{-2A}$, $w = (w_0\cosh L-m_0\sinh L)\,e^{-2A}$.

    Args:
        start: the factors at time 0, of shape ``(n,)``.
        L: $\int_0^t\nabla f(x_s)\,ds$, any shape that broadcasts with ``(n,)``.
        A: dose $\int_0^t\alpha_s\,ds\ge0$, likewise.

    Raises:
        ValueError: a negative dose, a NaN, shapes that do not broadcast.
    """
    m0, w0, L, A = broadcast(m0=start.m, w0=start.w, L=L, A=A)
    check_finite(L=L, A=A)
    if (A < 0).any():
        raise ValueError(f"a dose is an integral of strengths and must be 0 or above; got {A[A < 0].flat[0]}")
    u = 0.5 * (m0 + w0) * np.exp(-L - 2 * A)
    v = 0.5 * (m0 - w0) * np.exp(L - 2 * A)
    return Factors(u + v, u - v)


def printed_scale(beta: ArrayLike, A: ArrayLike) -> Array:
    r"""The scale as printed in version 1 of the paper, $2u_0v_0e^{-2A} = \beta e^{-2A}$, which is wrong.

    The scale that belongs to the flow is $\frac\beta2e^{-4A}$. Kept to show that with the printed one
    $a\sinh(-2L+c)$ is not the weight, at $t=0$ already.

    Args:
        beta: $m_0^2-w_0^2>0$.
        A: dose.

    Raises:
        ValueError: a beta that is not positive.
    """
    beta, A = broadcast(beta=beta, A=A)
    check_positive(beta=beta)
    return beta * np.exp(-2 * A)


def _scaled_sinh(z: Array, a: Array) -> Array:
    """a sinh z, also where sinh z alone would overflow."""
    far = np.abs(z) > 600
    return np.where(far, np.sign(z) * _scaled_exp(np.abs(z), a), a * np.sinh(np.where(far, 0.0, z)))


def _scaled_cosh(z: Array, a: Array) -> Array:
    far = np.abs(z) > 600
    return np.where(far, _scaled_exp(np.abs(z), a), a * np.cosh(np.where(far, 0.0, z)))


def _scaled_exp(z: Array, a: Array) -> Array:
    root = np.exp(np.minimum(z, 1400.0) / 2)  # 1400: the product below is infinite only where the value is
    with np.errstate(over="ignore"):
        return np.where(z <= 1400.0, (a / 2 * root) * root, np.inf)


def _sinh_minus(delta: Array) -> Array:
    """sinh(delta) - delta for |delta| <= 1, by its series."""
    total = np.zeros_like(delta)
    for k in range(_SERIES_TERMS, 0, -1):
        total = (1 + total) * delta**2 / ((2 * k) * (2 * k + 1))
    return total * delta
