import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repro.geometry.potentials import (
    Factors,
    bregman_divergence,
    conjugate,
    factors,
    factors_at,
    hessian,
    hyperbolic_entropy,
    inverse_hessian,
    inverse_mirror_map,
    mirror_map,
    printed_scale,
)

SCALES = [1e-30, 1e-12, 1e-3, 1.0, 7.0, 1e8, 1e30]
RATIOS = [1e-20, 1e-9, 1e-4, 0.3, 1.0, 20.0, 1e4, 1e12]
POINTS = [(sign * ratio * a, a) for a in SCALES for ratio in RATIOS for sign in (1, -1)]

moderate = st.floats(-50, 50)
scales = st.floats(-30, 30).map(lambda exponent: 10.0**exponent)


def exactly(function, *arguments):
    with mpmath.workdps(50):
        return float(function(*map(mpmath.mpf, arguments)))


def exact_entropy(x, a, c=0):
    return (x * (mpmath.asinh(x / a) - c) - mpmath.sqrt(x**2 + a**2)) / 2


def exact_divergence(x, y, a):
    slope = mpmath.asinh(y / a) / 2
    return exact_entropy(x, a) - exact_entropy(y, a) - slope * (x - y)


def test_values_of_the_first_reference_point():
    start = factors(0.3, 1.0)
    assert start.m == pytest.approx(1.0407185928, abs=5e-11)
    assert start.w == pytest.approx(0.2882623622, abs=5e-11)
    assert start.scale == pytest.approx(0.5, abs=1e-15)
    assert start.centre == pytest.approx(0.5688248987, abs=5e-11)
    assert hyperbolic_entropy(0.3, 0.5, start.centre) == pytest.approx(-0.2915475947, abs=5e-11)
    assert mirror_map(0.3, 0.5, start.centre) == pytest.approx(0, abs=1e-15)


def test_values_after_a_gradient_and_a_dose():
    start = factors(0.3, 1.0)
    later = factors_at(start, 0.7, 0.25)
    assert later.m == pytest.approx(0.6596667434, abs=5e-11)
    assert later.w == pytest.approx(-0.2593853720, abs=5e-11)
    assert later.x == pytest.approx(-0.1711079037, abs=5e-11)
    assert later.scale == pytest.approx(0.1839397206, abs=5e-11)
    assert inverse_mirror_map(-0.7, later.scale, start.centre) == pytest.approx(-0.1711079037, abs=5e-11)


def test_values_at_a_small_scale():
    assert hyperbolic_entropy(1, 0.01) == pytest.approx(2.1491461834, abs=5e-11)
    assert mirror_map(1, 0.01) == pytest.approx(2.6491711828, abs=5e-11)
    assert hessian(1, 0.01) == pytest.approx(0.4999750019, abs=5e-11)


def test_derivatives_are_those_of_automatic_differentiation():
    rng = np.random.default_rng(0)
    x, a, c = rng.normal(size=50), np.exp(rng.normal(size=50)), rng.normal(size=50)
    point = torch.tensor(x, requires_grad=True)
    scale = torch.tensor(a)
    value = 0.5 * (
        point * torch.asinh(point / scale) - torch.sqrt(point**2 + scale**2) - point * torch.tensor(c)
    )
    (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), point)
    np.testing.assert_allclose(hyperbolic_entropy(x, a, c), value.detach(), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(mirror_map(x, a, c), slope.detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(hessian(x, a), curvature, rtol=1e-12)
    np.testing.assert_allclose(inverse_hessian(x, a), 1 / curvature, rtol=1e-12)


@pytest.mark.parametrize(("x", "a"), POINTS)
def test_fifty_digits_agree(x, a):
    mu = float(mirror_map(x, a))
    assert hyperbolic_entropy(x, a) == pytest.approx(exactly(exact_entropy, x, a), rel=1e-12, abs=0)
    assert mu == pytest.approx(exactly(lambda x, a: mpmath.asinh(x / a) / 2, x, a), rel=1e-14, abs=0)
    assert inverse_mirror_map(mu, a) == pytest.approx(
        exactly(lambda mu, a: a * mpmath.sinh(2 * mu), mu, a), rel=1e-13, abs=0
    )
    assert conjugate(mu, a) == pytest.approx(
        exactly(lambda mu, a: a / 2 * mpmath.cosh(2 * mu), mu, a), rel=1e-13, abs=0
    )
    assert hessian(x, a) == pytest.approx(
        exactly(lambda x, a: 1 / (2 * mpmath.sqrt(x**2 + a**2)), x, a), rel=1e-14, abs=0
    )


@pytest.mark.parametrize(("x", "a"), POINTS)
@pytest.mark.parametrize("c", [-3.0, 1e-8, 2.5])
def test_fifty_digits_agree_off_centre_up_to_the_rounding_of_the_terms(x, a, c):
    terms = abs(x) * (np.arcsinh(abs(x) / a) + abs(c)) + np.hypot(x, a)
    expected = exactly(exact_entropy, x, a, c)
    assert abs(hyperbolic_entropy(x, a, c) - expected) <= 1e-15 * terms


@pytest.mark.parametrize("a", SCALES)
@pytest.mark.parametrize("x", [-1e6, -2.0, 0.0, 1e-8, 0.7, 40.0])
@pytest.mark.parametrize("step", [1e-12, -1e-6, 1e-2, -0.9, 3.0, -1e5])
def test_divergences_keep_their_digits(x, a, step):
    x, y = x * a, (x + step) * a
    expected = exactly(exact_divergence, x, y, a)
    # the step itself, y - x, is only as exact as float64 makes it: the reference takes the rounded y too
    assert bregman_divergence(x, y, a) == pytest.approx(expected, rel=1e-12, abs=0)


def test_far_out_on_the_dual_side_nothing_overflows_before_the_weight_does():
    z, a = 740.0, 1e-30
    expected = exactly(lambda z, a: a * mpmath.sinh(z), z, a)
    assert inverse_mirror_map(z / 2, a) == pytest.approx(expected, rel=1e-12)
    assert inverse_mirror_map(-z / 2, a) == pytest.approx(-expected, rel=1e-12)
    assert conjugate(-z / 2, a) == pytest.approx(expected / 2, rel=1e-12)
    assert inverse_mirror_map(1e5, 1.0) == np.inf


@given(moderate, scales, st.floats(-5, 5))
def test_the_two_maps_undo_each_other(x, a, c):
    mu = mirror_map(x, a, c)
    assert inverse_mirror_map(mu, a, c) == pytest.approx(x, rel=1e-12, abs=1e-14 * a)


@given(moderate, scales, st.floats(-5, 5))
def test_potential_and_conjugate_add_up_to_the_product(x, a, c):
    mu = mirror_map(x, a, c)
    size = abs(x * mu) + np.hypot(x, a) + abs(x * c)
    assert abs(hyperbolic_entropy(x, a, c) + conjugate(mu, a, c) - x * mu) <= 1e-13 * size


@given(moderate, st.floats(-4, 4), st.floats(0.01, 100), st.floats(-3, 3))
def test_elsewhere_they_are_larger_than_the_product(x, mu, a, c):
    assert hyperbolic_entropy(x, a, c) + conjugate(mu, a, c) >= x * mu - 1e-12 * (1 + abs(x * mu) + a)


@given(moderate, moderate, scales)
def test_divergences_are_never_negative_and_vanish_only_where_both_agree(x, y, a):
    divergence = bregman_divergence(x, y, a)
    assert divergence >= 0
    assert bregman_divergence(x, x, a) == 0
    if abs(x - y) > 1e-6 * a and abs(x - y) > 1e-6:
        assert divergence > 0


@given(st.floats(-3, 3), st.floats(0.1, 5), st.floats(0, 3))
def test_the_minimum_lies_at_the_shrunken_start(x0, beta, A):
    a, c = beta / 2 * np.exp(-4 * A), np.arcsinh(x0 / (beta / 2))
    lowest = np.exp(-4 * A) * x0
    assert a * np.sinh(c) == pytest.approx(lowest, abs=1e-14)
    assert mirror_map(lowest, a, c) == pytest.approx(0, abs=1e-14)
    assert hyperbolic_entropy(lowest, a, c) == pytest.approx(-a / 2 * np.cosh(c), rel=1e-12)


def test_a_large_scale_is_the_squared_distance_to_the_centre():
    x0, x = 0.7, np.linspace(-2, 2, 9)
    for a, tolerance in ((1e2, 1e-3), (1e4, 1e-7)):
        c = np.arcsinh(x0 / a)
        rise = bregman_divergence(x, x0, a)
        np.testing.assert_allclose(rise, (x - x0) ** 2 / (4 * a), rtol=tolerance, atol=0)
        above = hyperbolic_entropy(x, a, c) - hyperbolic_entropy(x0, a, c)
        np.testing.assert_allclose(above, rise, atol=1e-15 * a)


def test_a_small_scale_is_the_absolute_value_but_only_logarithmically():
    x = np.array([-3.0, -0.2, 0.5, 2.0])
    errors = [
        np.abs(hyperbolic_entropy(x, a, 1.5) / (0.5 * np.log(1 / a)) - np.abs(x)).max()
        for a in (1e-5, 1e-10, 1e-20, 1e-30)
    ]
    products = np.array(errors) * np.log([1e5, 1e10, 1e20, 1e30])
    np.testing.assert_allclose(products, products[-1], rtol=1e-8)


@given(st.floats(-1e3, 1e3, allow_subnormal=False), st.floats(0, 1e3, allow_subnormal=False))
def test_a_start_has_the_weight_and_the_difference_of_squares(x, beta):
    start = factors(x, beta)
    assert start.m >= 0
    assert start.x == pytest.approx(x, rel=1e-14)
    assert start.m**2 - start.w**2 == pytest.approx(beta, abs=1e-12 * (beta + abs(x)))


def test_the_balanced_start_is_the_root_of_the_weight():
    start = factors([-4.0, 0.0, 9.0], 0.0)
    np.testing.assert_array_equal(start.m, [2, 0, 3])
    np.testing.assert_array_equal(start.w, [-2, 0, 3])


@given(st.floats(-2, 2), st.floats(0.1, 5), st.floats(-3, 3), st.floats(0, 2))
def test_closed_form_factors_are_the_matrix_exponential_and_the_mirror_image(x, beta, L, A):
    start = factors(x, beta)
    later = factors_at(start, L, A)
    decay = np.exp(-2 * A)
    assert later.m == pytest.approx(
        (start.m * np.cosh(L) - start.w * np.sinh(L)) * decay, rel=1e-9, abs=1e-12
    )
    assert later.w == pytest.approx(
        (start.w * np.cosh(L) - start.m * np.sinh(L)) * decay, rel=1e-9, abs=1e-12
    )
    assert later.m**2 - later.w**2 == pytest.approx(beta * np.exp(-4 * A), rel=1e-9, abs=1e-9)
    weight = inverse_mirror_map(-L, beta / 2 * np.exp(-4 * A), np.arcsinh(2 * x / beta))
    assert later.x == pytest.approx(weight, rel=1e-9, abs=1e-9)


def test_the_printed_scale_misses_the_start_by_the_whole_weight():
    x0, beta = np.array([0.9, -0.4]), 1.0
    c = np.arcsinh(2 * x0 / beta)
    np.testing.assert_allclose(inverse_mirror_map(0, beta / 2, c), x0)
    printed = inverse_mirror_map(0, printed_scale(beta, 0.0), c)
    assert np.abs(printed - x0).max() > 0.1
    np.testing.assert_allclose(printed, 2 * x0)
    assert printed_scale(beta, 0.25) == pytest.approx(np.exp(-0.5))
    assert abs(printed_scale(beta, 0.25) - factors_at(factors(0.9, beta), 0.3, 0.25).scale) > 0.1


@pytest.mark.parametrize("a", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("function", [hyperbolic_entropy, mirror_map, inverse_mirror_map, conjugate, hessian])
def test_a_scale_must_be_positive(function, a):
    with pytest.raises(ValueError, match=f"a must be positive and finite; got {a}"):
        function(1.0, [1.0, a])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="x must be finite; got nan"):
        hyperbolic_entropy([1.0, np.nan], 1.0)
    with pytest.raises(ValueError, match=r"x \(2,\), y \(3,\), a \(\)"):
        bregman_divergence([1.0, 2.0], [1.0, 2.0, 3.0], 1.0)
    with pytest.raises(ValueError, match=r"beta = m\^2 - w\^2 must be 0 or above; got -0.5"):
        factors(1.0, -0.5)
    with pytest.raises(ValueError, match="x must be finite; got inf"):
        factors(np.inf, 1.0)
    with pytest.raises(ValueError, match=r"one shape; got \(2,\) and \(3,\)"):
        Factors(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="w must be finite; got nan"):
        Factors(np.ones(2), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match=r"0 or above; got -0\.1"):
        factors_at(factors(1.0, 1.0), 0.0, -0.1)
    with pytest.raises(ValueError, match="beta must be positive and finite; got 0"):
        printed_scale(0.0, 1.0)


@pytest.mark.parametrize("w", [1.0, -1.0, 2.0])
@pytest.mark.parametrize("attribute", ["scale", "centre"])
def test_degenerate_factors_have_no_potential(w, attribute):
    start = Factors(np.array([2.0, 1.0]), np.array([0.5, w]))
    with pytest.raises(ValueError, match=rf"\|w\| < m in every coordinate; got m = 1.0, w = {w}"):
        getattr(start, attribute)
