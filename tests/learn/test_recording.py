"""Recordings: exact sizes, bounded memory, chosen parameters."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repro.learn import Record
from repro.learn.recording import Recorder


@given(n_steps=st.integers(1, 40), every=st.integers(1, 15), members=st.sampled_from([None, 1, 3]))
def test_rows_and_bytes_agree_with_counting(n_steps: int, every: int, members: int | None) -> None:
    lead = () if members is None else (members,)
    trained = {"a": torch.zeros((*lead, 4)), "b": torch.zeros((*lead, 2, 3), dtype=torch.float64)}
    for tensor in trained.values():
        tensor.grad = torch.ones_like(tensor)
    record = Record(("weights", "gradients", "loss"), every)
    recorder = Recorder(record, trained, n_steps, lead)
    for step in range(n_steps):
        recorder.before_update(step, torch.full(lead, 1.0))
        for tensor in trained.values():
            tensor += 1
    recorder.after_last(n_steps)
    recording = recorder.recording
    at = [t for t in range(n_steps + 1) if t % every == 0]
    assert recording.weight_steps.tolist() == at
    assert recording.steps.tolist() == [t for t in at if t < n_steps]
    for name in trained:
        values = recording.weights[name].flatten(1)
        assert (values == torch.tensor(at)[:, None]).all()  # the weights count the updates
        assert (recording.gradients[name] == 1).all()
    assert recording.loss is not None
    assert (recording.loss == 1).all()
    # the bound is exact: one byte less is too little
    Recorder(Record(record.what, every, max_bytes=recording.n_bytes), trained, n_steps, lead)
    with pytest.raises(MemoryError, match=f"{recording.n_bytes:,} bytes"):
        Recorder(Record(record.what, every, max_bytes=recording.n_bytes - 1), trained, n_steps, lead)


def test_the_suggested_interval_fits() -> None:
    trained = {"a": torch.zeros(1000)}
    with pytest.raises(MemoryError, match=r"every=(\d+) may do") as caught:
        Recorder(Record(max_bytes=100_000), trained, 1000, ())
    every = int(str(caught.value).split("every=")[1].split(" ")[0])
    Recorder(Record(every=every, max_bytes=100_000), trained, 1000, ())


def test_chosen_parameters_and_kinds() -> None:
    trained = {"a": torch.zeros(2), "b": torch.zeros(3)}
    recording = Recorder(Record("gradients", parameters=["b"]), trained, 5, ()).recording
    assert list(recording.gradients) == ["b"]
    assert recording.weights == {}
    assert recording.loss is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"what": ("weight",)}, "weights, gradients, loss; got weight"),
        ({"what": ()}, "got none"),
        ({"every": 0}, "got 0"),
        ({"every": 1.5}, "got 1.5"),
    ],
)
def test_bad_records(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Record(**arguments)  # type: ignore[arg-type]
