"""Series and p-values whose containers mean more than their numbers: read for what they mean, or refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from repro.series.granger import Status, granger_test
from repro.series.lyapunov import LyapunovStatus, lyapunov_rosenstein, lyapunov_tisean
from repro.series.multiplicity import benjamini_hochberg, holm, least_p, storey
from repro.series.surrogates import shuffled, trend_matched_pairs

X = np.random.default_rng(0).normal(size=(2, 40))
MASKED = np.ma.array(X, mask=np.arange(80).reshape(2, 40) == 3)
LARGE = 2**53 + np.arange(80).reshape(2, 40)

OF_SERIES = {
    "granger_test, cause": lambda x: granger_test(X[0] ** 2, x, 1).f,
    "granger_test, effect": lambda x: granger_test(x, X**2, 1).f,
    "lyapunov_rosenstein": lambda x: lyapunov_rosenstein(x, emb_dim=2, trajectory_len=4).exponent,
    "lyapunov_tisean": lambda x: lyapunov_tisean(x, forward_steps=2).exponent,
    "shuffled": lambda x: shuffled(x, 0)[:, 0],
    "trend_matched_pairs": lambda x: trend_matched_pairs(x, X, 0)[0][:, 0],
}
OF_P_VALUES = [holm, benjamini_hochberg, storey, least_p]
every_function_of_series = pytest.mark.parametrize("f", OF_SERIES.values(), ids=OF_SERIES)


@every_function_of_series
@pytest.mark.parametrize("make", [lambda m: m, list], ids=["masked array", "list of masked arrays"])
def test_a_masked_value_is_a_missing_one(f, make):
    found = f(make(MASKED))
    assert np.isnan(found).tolist() == [True, False]
    assert found[1] == f(X)[1]
    assert np.array_equal(f(np.ma.array(X)), f(X))


def test_a_masked_value_is_labelled():
    assert granger_test(X[0], MASKED, 1).status[0] == Status.NOT_FINITE
    assert lyapunov_tisean(MASKED, forward_steps=2).status[0] == LyapunovStatus.NOT_FINITE
    whole_numbers = np.ma.masked_equal(np.arange(80).reshape(2, 40) % 7, 3)
    assert np.isnan(shuffled(whole_numbers, 0)).all()


@pytest.mark.parametrize("f", OF_P_VALUES)
def test_a_masked_p_value_is_untestable(f):
    p = np.ma.array([[0.01, 0.02, 0.9]], mask=[[False, False, True]])
    expected, found = f(np.array([[0.01, 0.02, np.nan]])), f(p)
    np.testing.assert_array_equal(getattr(found, "adjusted", found), getattr(expected, "adjusted", expected))


@every_function_of_series
@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.astype(">f8"),
        lambda x: [torch.tensor(row) for row in x],
        lambda x: torch.nn.Parameter(torch.tensor(x)),
        lambda x: torch.tensor(-1j * x).conj().imag,  # a view with the negative bit
    ],
    ids=["big endian", "list of tensors", "parameter", "negative view"],
)
def test_the_same_numbers_in_another_container(f, make):
    np.testing.assert_array_equal(f(make(X)), f(X))


@every_function_of_series
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (pd.DataFrame(X), TypeError, r"each row a series; got a DataFrame, .* \.to_numpy\(\)"),
        (pd.Series(X[0]), TypeError, "got a Series, whose labels would not be read"),
        (LARGE, ValueError, r"below 2\*\*53\), got about 9007199254740992"),
        (LARGE.astype(">u8"), ValueError, "got about 9007199254740992"),
        (torch.tensor(-LARGE), ValueError, "got about -9007199254740992"),
        (X.astype(object), TypeError, "must hold real numbers .*, got object"),
        (X.astype(str), TypeError, "got <U"),
        (LARGE.astype("M8[s]"), TypeError, r"got datetime64\[s\]"),
        (torch.tensor(X).to_sparse(), TypeError, "in a dense tensor, got a Tensor, torch.sparse_coo"),
        (torch.tensor(X, device="meta"), TypeError, "on meta"),
    ],
)
def test_what_would_lose_its_meaning_is_refused(f, values, error, message):
    with pytest.raises(error, match=message):
        f(values)


@pytest.mark.skipif(np.finfo(np.longdouble).eps == np.finfo(float).eps, reason="long double is double here")
@every_function_of_series
def test_more_digits_than_float64_has_are_refused(f):
    with pytest.raises(TypeError, match="up to float64"):
        f(X.astype(np.longdouble))


@pytest.mark.filterwarnings("ignore:The PyTorch API of")
def test_tensors_that_are_more_than_their_numbers_are_refused():
    values = torch.tensor(X)
    for tensor, name in (
        (torch.masked.masked_tensor(values, values > 0), "MaskedTensor"),
        (torch.nested.nested_tensor([values[0], values[1, :30]]), "nested Tensor"),
    ):
        with pytest.raises(TypeError, match=f"dense tensor, got a {name}"):
            granger_test(X[0], tensor, 1)


@pytest.mark.parametrize("f", OF_P_VALUES)
@pytest.mark.parametrize("p", [["0.01", "0.2"], [True, False], [0.1 + 1j], [0.1, None]])
def test_p_values_that_are_no_numbers_are_refused(f, p):
    with pytest.raises(TypeError, match="p must hold real numbers"):
        f(p)


@pytest.mark.parametrize("f", OF_P_VALUES[:3])
@pytest.mark.parametrize("level", [5, "0.05", True])
def test_a_level_in_per_cent_is_refused(f, level):
    with pytest.raises(ValueError, match=f"strictly between 0 and 1, got {level}"):
        f([0.01, 0.2], level)
