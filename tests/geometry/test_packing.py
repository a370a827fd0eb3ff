import numpy as np
import pytest

from repro.geometry.packing import Packing


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_round_trip_keeps_leading_dimensions(lead):
    arrays = [np.random.default_rng(0).normal(size=(*lead, 2, 3)), np.arange(4.0) * np.ones((*lead, 4))]
    packing = Packing(((2, 3), (4,)))
    flat = packing.pack(arrays)
    assert flat.shape == (*lead, 10)
    for a, b in zip(packing.unpack(flat), arrays, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_vector_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"9 numbers .*\(\(2, 3\), \(4,\)\)"):
        Packing(((2, 3), (4,))).unpack(np.zeros(9))
