"""The words about an unknown name: a hint where a known name is near, and always what is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.learn._names import unknown

LOSSES = {"cross_entropy": 1, "logistic": 2}


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("logistics", LOSSES, "'logistics'; did you mean 'logistic'? Known: cross_entropy, logistic"),
        ("zzz", LOSSES, "'zzz'; known: cross_entropy, logistic"),
        (
            "Cross-Entropy",
            LOSSES,
            "'Cross-Entropy'; did you mean 'cross_entropy'? Known: cross_entropy, logistic",
        ),
        (
            "lenet_digits",
            ["LeNet-Digits"],
            "'lenet_digits'; did you mean 'LeNet-Digits'? Known: LeNet-Digits",
        ),
        ("", LOSSES, "''; known: cross_entropy, logistic"),
        (None, ["none", "squares"], "None; did you mean 'none'? Known: none, squares"),
        (None, LOSSES, "None; known: cross_entropy, logistic"),
        (3, ["3", "4"], "3; did you mean '3'? Known: 3, 4"),
        (3, LOSSES, "3; known: cross_entropy, logistic"),
        ("3", [3, 4], "'3'; did you mean '3'? Known: 3, 4"),
        ("x", [""], "'x'; known: ''"),
        ("x", [], "'x'; known: none"),
    ],
)
def test_the_words(name: object, known: list[object], expected: str) -> None:
    assert unknown("loss", name, known) == f"unknown loss {expected}"


def test_the_nearest_of_many_is_named_and_none_left_out() -> None:
    names = [f"layer{i}.weight" for i in range(200)]
    message = unknown("parameter", "layer117.wieght", iter(names))
    assert message == (
        f"unknown parameter 'layer117.wieght'; did you mean 'layer117.weight'? Known: {', '.join(names)}"
    )


@given(st.none() | st.integers() | st.text(), st.lists(st.text()))
def test_the_name_and_all_known_ones_stand_in_the_message(name: object, known: list[str]) -> None:
    message = unknown("setting", name, known)
    assert message.startswith(f"unknown setting {name!r}; ")
    assert message.endswith(": " + (", ".join(each or "''" for each in known) or "none"))
    assert all(each in message for each in known)


@given(
    st.lists(st.from_regex(r"[a-z]{3,8}(_[a-z]{3,8})?", fullmatch=True), min_size=1, unique=True), st.data()
)
def test_another_spelling_of_a_known_name_leads_to_it(known: list[str], data: st.DataObject) -> None:
    meant = data.draw(st.sampled_from(known))
    assert f"; did you mean {meant!r}? Known: " in unknown("setting", meant.upper().replace("_", "-"), known)
