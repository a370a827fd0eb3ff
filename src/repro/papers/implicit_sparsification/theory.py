r"""What can be checked exactly: gradient flow on $x = m\odot w$ as a mirror flow, and where it ends.

With a penalty $\alpha_t(\|m\|^2+\|w\|^2)$ on the factors and the dose $A=\int\alpha$, the flow of $x$ is a mirror
flow of the hyperbolic entropy $R_a$ with $a = \frac\beta2 e^{-4A}$, $\beta = m_0^2-w_0^2$. ``Flow.factors``
integrates the factors themselves, for any loss; ``Flow.mirror`` the weights, with the potential; ``Flow.dual`` the d
dual variables of a linear regression, which is stiff but cheap and reaches the limit. The three are integrated
separately: that they agree is a theorem. Everything is float64 and acts elementwise on weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import solve_ivp
from scipy.optimize import linprog

from repro.papers.implicit_sparsification.method import pilot_factors
from repro.papers.implicit_sparsification.settings import _Array

_Gradient = Callable[[_Array], _Array]
_Velocity = Callable[[float, _Array], _Array]

# --- the potential ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Potential:
    r"""Hyperbolic entropy, $R_a(x) = \frac12\left[x\,\mathrm{arcsinh}\frac xa-\sqrt{x^2+a^2}-x\,c\right]$.

    Of every coordinate; the sum over them is the potential of the vector. The minimum, $-\frac a2\cosh c$, lies at
    $x = a\sinh c = e^{-4A}x_0$. For large $a$ the potential is $\frac1{4a}(x-a\sinh c)^2$ up to a constant, for small
    $a$ it is $\frac12\log\frac1a\,|x|$ to leading order. Not to be confused with twice this potential, which belongs
    to the clock $\tau = 2t$.

    Attributes:
        a: scale, above 0, in units of the weights; one or ``(n,)``.
        c: centre, no unit; one or ``(n,)``.
    """

    a: float | _Array
    c: float | _Array = 0.0

    @classmethod
    def after(cls, dose: float, x0: ArrayLike, beta: float = 1.0) -> Potential:
        r"""The potential of a flow that has spent a dose A.

        $$a=\frac\beta2e^{-4A},\qquad c=\log\frac{m_0+w_0}{m_0-w_0}=\mathrm{arcsinh}\frac{2x_0}\beta.$$

        Args:
            dose: A.
            x0: weights at time 0, ``(n,)``.
            beta: $m_0^2-w_0^2>0$.
        """
        return cls(beta / 2 * float(np.exp(-4 * dose)), np.arcsinh(2 * np.asarray(x0) / beta))

    def __call__(self, x: ArrayLike) -> _Array:
        r"""$R_a(x)$ of weights x, of their shape."""
        x = np.asarray(x)
        return 0.5 * (x * (np.arcsinh(x / self.a) - self.c) - np.hypot(x, self.a))

    def gradient(self, x: ArrayLike) -> _Array:
        r"""The mirror map, $\nabla R_a(x) = \frac12\left[\mathrm{arcsinh}\frac xa-c\right]$, of the shape of x.

        Along the flow it is $-L_t = -\int_0^t\nabla f$.
        """
        return 0.5 * (np.arcsinh(np.asarray(x) / self.a) - self.c)

    def least(self, Z: _Array, y: _Array) -> _Array:
        r"""The interpolator of least potential, $\arg\min_{Zx=y}\sum_iR_{a_i}(x_i)$.

        By damped Newton steps on the dual, $\min_\nu\sum_i\frac{a_i}2\cosh(2(Z^\top\nu)_i+c_i)-y^\top\nu$, with
        $x = a\sinh(2Z^\top\nu+c)$. A small scale is approached from larger ones. Not the limit of a flow by
        construction: that it is one, for $a=a_\infty$, is the theorem to be checked.

        Args:
            Z: inputs, ``(d, n)``; rows may depend on each other.
            y: targets, ``(d,)``; those of some weights x, $y = Zx$, give the point with the same predictions.

        Returns:
            x, ``(n,)``.

        Raises:
            ValueError: no x solves $Zx=y$.
            RuntimeError: the residual stays above 1e-8 of its terms.
        """
        scale, c = (np.broadcast_to(one, Z.shape[1]) for one in (self.a, self.c))
        rows, targets = _orthonormal(Z, y)
        ratio = 1e3  # between the scales that lead from an easy problem to one of a small scale
        span = np.log(max(np.abs(targets).max(), 1e-300) / scale.min())
        nu = np.zeros(len(targets))
        for k in range(max(0, int(np.ceil(span / np.log(ratio)))), -1, -1):
            nu = _newton(rows, targets, scale * ratio**k, c, nu)
            reach = np.abs(2 * nu @ rows + c).max()
            if k and reach > 0:
                nu = nu * (1 + np.log(ratio) / reach)  # large entries grow by this much as the scale shrinks
        x = scale * np.sinh(2 * nu @ rows + c)
        if (residual := np.abs(Z @ x - y).max()) > 1e-8 * (np.abs(Z) @ np.abs(x) + np.abs(y)).max():
            raise RuntimeError(f"the dual could not be solved: a residual of {residual:.1e} is left")
        return x


def _inverse_mirror_map(mu: ArrayLike, log_a: ArrayLike, c: ArrayLike = 0.0) -> _Array:
    r"""Weights of a dual state $\mu=-\int\nabla f$, $x = a\sinh(2\mu+c)$; also where the two factors are out of range.

    Args:
        mu: dual state.
        log_a: logarithm of the scale: under constant decay the scale itself underflows while the weight does not.
        c: centre.
    """
    z = 2 * np.asarray(mu) + np.asarray(c)
    far = np.abs(z) > 300
    distant = np.sign(z) * np.exp(np.abs(z) + log_a - np.log(2))
    return np.where(far, distant, np.exp(log_a) * np.sinh(np.where(far, 0.0, z)))


# --- the flow, in three forms -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    r"""Gradient flow on $f(m\odot w)+\alpha_t(\|m\|^2+\|w\|^2)$, in three forms.

    The strength is $\alpha_t = \alpha e^{-rt}$ until a time T, then 0; its integral is the dose. Constant, unless it
    decays or ends. PyTorch's ``weight_decay`` is $2\alpha$. What is told by step and not by time is a
    ``method.schedule``.

    Attributes:
        x0: weights at time 0, ``(n,)``.
        alpha: strength of the penalty at time 0.
        rate: r, 0 or above.
        until: T.
        beta: $m_0^2-w_0^2$. A balanced start (0) has no potential: ``factors`` alone follows it.
    """

    x0: _Array
    alpha: float
    rate: float = 0.0
    until: float = np.inf
    beta: float = 1.0

    def strength(self, t: ArrayLike) -> _Array:
        r"""Strength $\alpha_t$ at the times t, of their shape."""
        t = np.asarray(t)
        return np.where(t < self.until, self.alpha * np.exp(-self.rate * t), 0.0)

    def dose(self, t: ArrayLike) -> _Array:
        r"""Dose $A_t = \int_0^t\alpha_s\,ds$ at the times t, of their shape."""
        t = np.minimum(t, self.until)
        return -self.alpha / self.rate * np.expm1(-self.rate * t) if self.rate else self.alpha * t

    def factors(self, gradient: _Gradient, times: _Array, mask_only: bool = False) -> tuple[_Array, _Array]:
        r"""The definition, $\dot m = -\nabla f(x)\odot w-2\alpha_tm$, $\dot w = -\nabla f(x)\odot m-2\alpha_tw$.

        Integrated by an explicit method of eighth order: for horizons of some tens, since leaving zero takes a time in
        proportion to $1/a$.

        Args:
            gradient: $\nabla f$ from weights ``(n,)`` to ``(n,)``.
            times: increasing, 0 or above, ``(n_times,)``.
            mask_only: whether m alone is penalised: then there is no potential.

        Returns:
            m and w at the times, ``(n_times, n)`` each.

        Raises:
            RuntimeError: the solver gives up.
        """
        n = len(self.x0)

        def velocity(t: float, state: _Array) -> _Array:
            m, w = state[:n], state[n:]
            g, decay = gradient(m * w), 2 * self.strength(t)
            return np.concatenate([-g * w - decay * m, -g * m - (0.0 if mask_only else decay) * w])

        states = self._integrate(velocity, np.concatenate(pilot_factors(self.x0, self.beta)), times)
        return states[:, :n], states[:, n:]

    def mirror(self, gradient: _Gradient, times: _Array) -> _Array:
        r"""Mirror flow of the weights, $\dot x = -2\sqrt{x^2+a_t^2}\odot\nabla f(x)-4\alpha_tx$.

        It is $d\,\nabla R_{a_t}(x_t) = -\nabla f\,dt$, $a_t = \frac\beta2e^{-4A_t}$, written for x, without factors.
        Arguments as for ``factors``; returns x at the times, ``(n_times, n)``.
        """

        def velocity(t: float, x: _Array) -> _Array:
            a = self.beta / 2 * np.exp(-4 * self.dose(t))
            return -2 * np.hypot(x, a) * gradient(x) - 4 * self.strength(t) * x

        # the start of the factors to the last bit
        return self._integrate(velocity, np.multiply(*pilot_factors(self.x0, self.beta)), times)

    def dual(self, Z: _Array, y: _Array, times: ArrayLike = (1e7,)) -> _Array:
        r"""The flow for $f(x) = \frac1{2d}\|Zx-y\|^2$, in d dual variables.

        $\dot\nu = -(Zx-y)/d$ with $x = a_t\sinh(2Z^\top\nu+c)$: exact because $\nabla R_{a_t}(x_t) = -\int\nabla f$
        never leaves the range of $Z^\top$. Integrated by an implicit method with the exact Jacobian, so that horizons
        at which every loss has vanished cost a fraction of a second. The slowest speed is about $a_\infty$: a dose of 6
        from $\beta=1$ needs a horizon of 1e9, one of 4 that of 1e7. Under constant strength 1e5 is right: later the
        dual variables, which grow without end, hold fewer digits of the weights.

        Args:
            Z, y: inputs ``(d, n)``, rows that do not depend on each other, and targets ``(d,)``.
            times: increasing, 0 to 1e9.

        Returns:
            x at the times, ``(n_times, n)``.
        """
        times = np.asarray(times, dtype=np.float64)
        log_half, dose = np.log(self.beta / 2), self.dose
        centre = np.arcsinh(np.multiply(*pilot_factors(self.x0, self.beta)) / (self.beta / 2))

        def weights(t: ArrayLike, nu: _Array) -> _Array:
            return _inverse_mirror_map(nu @ Z, log_half - 4 * dose(t), centre)

        def velocity(t: float, nu: _Array) -> _Array:
            return -(Z @ weights(t, nu) - y) / len(y)

        def slope(t: float, nu: _Array) -> _Array:
            a = np.exp(log_half - 4 * dose(t))
            return -(Z * (2 * np.hypot(weights(t, nu), a))) @ Z.T / len(y)

        # a finer tolerance lies below what the dual variables of a long flow can hold: the steps would never end
        options = {"method": "LSODA", "jac": slope, "rtol": 1e-10, "atol": 1e-10}
        return weights(times[:, None], self._integrate(velocity, np.zeros(len(y)), times, **options))

    def _integrate(self, velocity: _Velocity, start: _Array, times: _Array, **options: Any) -> _Array:
        """States at the times, ``(n_times, size)``, from time 0 on; restarted where the strength jumps."""
        edges = {0.0, float(times[-1]), min(float(self.until), float(times[-1]))}
        if not options:
            options = {"method": "DOP853", "rtol": 1e-11, "atol": 1e-13}
            edges |= set(times.tolist())  # interpolated states are a thousand times coarser than the steps'
        states = [start[None]] if times[0] == 0 else []
        for left, right in pairwise(sorted(edges)):
            first, last = np.nextafter(left, right), np.nextafter(right, left)
            # an end alone is the solver's last step, not interpolated
            asked = np.union1d(times[(times > left) & (times <= right)], [right]) if len(times) > 1 else None

            def inside(t: float, state: _Array, first: float = first, last: float = last) -> _Array:
                return velocity(min(max(t, first), last), state)  # at a jump, too, the velocity from inside

            found = solve_ivp(inside, (left, right), start, t_eval=asked, **options)
            if not found.success:
                raise RuntimeError(f"the flow could not be integrated beyond {left}: {found.message}")
            states.append(found.y.T[np.isin(found.t, times)])
            start = found.y[:, -1]
        return np.concatenate(states)


# --- where flows are said to end ----------------------------------------------------------------------------------


def _newton(rows: _Array, targets: _Array, a: _Array, c: _Array, nu: _Array) -> _Array:
    """Minimiser of the dual from ``nu`` on; stops at round-off."""

    def dual(at: _Array) -> tuple[float, _Array]:
        z = 2 * at @ rows + c
        with np.errstate(over="ignore"):  # a step too far is taken back
            return float((a * np.cosh(z)).sum() / 2 - targets @ at), a * np.sinh(z)

    value, x = dual(nu)
    for _ in range(200):
        gradient = rows @ x - targets
        size = np.abs(gradient).max()
        if size <= 1e-14 * (np.abs(rows) @ np.abs(x)).max():
            break
        step = -np.linalg.lstsq((rows * (2 * np.hypot(x, a))) @ rows.T, gradient)[0]
        slope, length = gradient @ step, 1.0
        while length > 1e-40:
            tried, tried_x = dual(nu + length * step)
            falls = tried < value + 1e-4 * length * slope
            if np.isfinite(tried) and (falls or np.abs(rows @ tried_x - targets).max() < size):
                break
            length /= 2
        else:
            break
        nu, value, x = nu + length * step, tried, tried_x
    return nu


def _least_l1(Z: _Array, y: _Array) -> _Array:
    r"""An interpolator of least $L_1$ norm, $\arg\min_{Zx=y}\|x\|_1$, by SciPy's linear programming (HiGHS).

    Unique for almost every Z; otherwise one vertex of the set of solutions, with at most d entries that are not zero.
    Arguments and errors as for ``Potential.least``.
    """
    rows, targets = _orthonormal(Z, y)
    unit = np.abs(targets).max() or 1.0
    costs, equations = np.ones(2 * Z.shape[1]), np.hstack([rows, -rows])
    tight: Any = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    found = linprog(costs, A_eq=equations, b_eq=targets / unit, method="highs-ds", options=tight)
    if found.x is None:
        raise RuntimeError(f"the linear program could not be solved: {found.message}")
    positive, negative = np.split(found.x, 2)
    return unit * (positive - negative)


def _orthonormal(Z: _Array, y: _Array) -> tuple[_Array, _Array]:
    """Orthonormal rows and targets of the same affine set; refuses an empty one."""
    u, s, rows = np.linalg.svd(Z, full_matrices=False)
    rank = int((s > s[0] * max(Z.shape) * np.finfo(np.float64).eps).sum())
    u, s, rows = u[:, :rank], s[:rank], rows[:rank]
    missed = np.abs(y - u @ (u.T @ y)).max()
    if not missed <= 1e-9 * np.abs(y).max():
        raise ValueError(f"no x solves Zx = y, off by {missed:.3g}: Z has rank {rank} of {len(y)} rows")
    return rows, u.T @ y / s
