"""Series in containers of every kind: read for what they mean, or refused; and work on several threads."""

import numpy as np
import pandas as pd
import pytest
import torch

from repro.series import granger_test, lyapunov_rosenstein, lyapunov_tisean, shuffled
from repro.series._inputs import over_chunks

X = np.random.default_rng(0).normal(size=(2, 40)).astype(np.float32).astype(float)
MASKED = np.ma.array(X, mask=np.arange(80).reshape(2, 40) == 3)
LARGE = 2**53 + np.arange(80).reshape(2, 40)

OF_SERIES = {
    "granger_test, cause": lambda x: granger_test(X[0] ** 2, x, 1).f,
    "granger_test, effect": lambda x: granger_test(x, X**2, 1).f,
    "lyapunov_rosenstein": lambda x: lyapunov_rosenstein(x, emb_dim=2, trajectory_len=4).exponent,
    "lyapunov_tisean": lambda x: lyapunov_tisean(x, forward_steps=2).exponent,
    "shuffled": lambda x: shuffled(x, 0)[:, 0],
}
every_function_of_series = pytest.mark.parametrize("f", OF_SERIES.values(), ids=OF_SERIES)


WHOLE, HALF = (20 * X).astype(np.int64), torch.tensor(X).bfloat16()
SAME = {
    "column-major": (np.asfortranarray(X), X),
    "strided": (np.repeat(X, 2, axis=1)[:, ::2], X),
    "read-only": (np.broadcast_to(X, X.shape), X),
    "big-endian": (X.astype(">f8"), X),
    "single precision": (X.astype(np.float32), X),
    "list": (X.tolist(), X),
    "parameter": (torch.nn.Parameter(torch.tensor(X)), X),
    "masked array without a mask": (np.ma.array(X), X),
    "integers": (WHOLE, WHOLE.astype(float)),
    "half precision": (HALF, HALF.double()),
    "masked array": (MASKED, MASKED.filled(np.nan)),
    "list of masked arrays": (list(MASKED), MASKED.filled(np.nan)),
}


@every_function_of_series
@pytest.mark.parametrize(("given", "numbers"), SAME.values(), ids=SAME)
def test_the_same_numbers_in_another_container(f, given, numbers):
    """What is masked is missing, and spoils its own row alone."""
    found = f(given)
    np.testing.assert_array_equal(found, f(numbers))
    assert np.isnan(found).tolist() == [np.isnan(np.asarray(numbers)).any(), False]


@every_function_of_series
@pytest.mark.parametrize(
    ("values", "error"),
    [
        (pd.DataFrame(X), TypeError),
        (np.zeros((2, 3, 4)), ValueError),
        (torch.tensor(-LARGE), ValueError),
        (torch.tensor(X) > 0, TypeError),
        (torch.tensor(X).to_sparse(), TypeError),
    ],
)
def test_what_would_lose_its_meaning_is_refused(f, values, error):
    with pytest.raises(error, match=r"(effect|cause|series) must (hold|be|have)"):
        f(values)


def test_a_failing_chunk_raises_and_puts_the_threads_back():
    def work(start, stop):
        raise ArithmeticError(f"{start}:{stop}")

    torch.set_num_threads(2)
    with pytest.raises(ArithmeticError, match="0:10"):
        over_chunks(lambda: work, 30, 10)
    assert torch.get_num_threads() == 2
