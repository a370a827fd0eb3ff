"""10,000 generated texts: each becomes a value of the declared type or one line of refusal, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from repro.book.errors import ParameterError
from repro.book.parameters import Parameter, Value, read_cell
from repro.book.sweep import grid

CELL = """profile: str = "quick"  # {smoke, quick, paper} how much
seed: int = 0  # [0, 1000000] bounded below and above
count: int = 3  # any whole number
n: int = None  # [1, 9] from the profile
rate: float = 0.5  # [0, 1) a share
scale: float = 1.0  # any number
bound: float = 1.0  # (0, inf] a limit that may be infinite
grade: int = 1  # {1, 2, 3} a choice of numbers
dataset: str = "digits"  # {digits, mnist5k} a choice of texts
label: str = "a"  # any text
loud: bool = True  # yes or no"""
DECLARED = read_cell(CELL)
TYPES: dict[str, type] = {
    p.name: {"int": int, "float": float, "str": str, "bool": bool}[p.type] for p in DECLARED
}
PROFILES = {profile: {"n": n} for n, profile in enumerate(("smoke", "quick", "paper"), start=1)}

ODD = [
    *("", " ", "\t", "\n", ",", '"', '""', "none", "None", "null", "nan", "NaN", "inf", "-inf", "Infinity"),
    *("1e400", "1e-400", "-0.0", "0x10", "1_0", "1__0", "٣", "１", "½", "1,5", "true", "FALSE", "yes", "1j"),
    *("9" * 400, "9" * 4001, "-" + "9" * 4000, "\x00", "\udc80", "é\u2028", "{1}", "__import__('os')"),
    *("0..", "..", "...", "1..1", "5..1", "0..9..0", "0..1e9", "0..9..-1", "0.5..1", "1..2..3..4"),
    *("linspace(0,1,2)", "linspace(0,1,0)", "logspace(0,999,2)", "geomspace(0,1,2)", "linspace(nan,1,2)"),
    *("Digits", "mnist", "Smoke", "fast", "1", "2", "3", "4", "0", "0.0", "1.0"),
]
ATOMS = (
    st.sampled_from(ODD)
    | st.sampled_from(["digits", "mnist5k", "smoke", "quick", "paper"])
    | st.integers().map(str)
    | st.integers(0, 9).map(str)
    | st.integers(-(10**300), 10**300).map(str)
    | st.floats().map(repr)
    | st.floats(0, 1).map(repr)
    | st.booleans().map(str)
    | st.text(max_size=8)
    | st.text("0123456789.,-+eE_ \"'()", max_size=8)
)
FORMS = (
    ATOMS
    | st.lists(ATOMS, min_size=2, max_size=3).map(",".join)
    | st.builds("{}..{}".format, st.integers(-5, 20), st.integers(-5, 20))
    | st.builds(
        "{}space({}, {}, {})".format,
        st.sampled_from(["lin", "log", "geom"]),
        ATOMS,
        ATOMS,
        st.integers(-1, 4),
    )
)
PAIRS = st.tuples(st.sampled_from(sorted(TYPES)), FORMS)
BATCH = 25
TOTAL = 10_000


def allowed(parameter: Parameter, value: Value) -> bool:
    """An independent reading of what the cell declares."""
    rules = {
        "profile": lambda v: v in ("smoke", "quick", "paper"),
        "seed": lambda v: 0 <= v <= 1_000_000,
        "n": lambda v: 1 <= v <= 9,
        "rate": lambda v: 0 <= v < 1,
        "scale": lambda v: abs(v) < float("inf"),
        "bound": lambda v: v > 0,
        "grade": lambda v: v in (1, 2, 3),
        "dataset": lambda v: v in ("digits", "mnist5k"),
    }
    return bool(rules.get(parameter.name, lambda v: True)(value))


def in_the_kernel(values: dict[str, Value]) -> dict[str, Value]:
    """The values as a kernel gets them: as JSON to the worker, then as the code that papermill writes."""
    namespace: dict[str, Value] = {}
    exec(PythonTranslator.codify(json.loads(json.dumps(values))), {}, namespace)
    return namespace


def accepted(points: list[grid.Point]) -> None:
    assert points
    for point in points:
        assert list(point.resolved) == list(TYPES)
        assert all(type(point.resolved[p.name]) is TYPES[p.name] for p in DECLARED)
        assert all(allowed(p, point.resolved[p.name]) for p in DECLARED)
    last = points[-1].resolved
    received = in_the_kernel(last)
    assert received == last
    assert {name: type(value) for name, value in received.items()} == TYPES


def one_line(error: ParameterError) -> None:
    message = str(error)
    assert message
    assert len(message.splitlines()) == 1
    assert message.encode()  # can be printed


def test_ten_thousand_texts_are_typed_or_refused() -> None:
    outcomes = {"accepted": 0, "refused": 0}
    seen: set[tuple[str, bool]] = set()

    @settings(
        max_examples=TOTAL // BATCH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(PAIRS, min_size=BATCH, max_size=BATCH))
    def fuzz(pairs: list[tuple[str, str]]) -> None:
        for name, text in pairs:
            try:
                points = grid.points(DECLARED, PROFILES, [f"{name}={text}"], where="toy.yml")
            except ParameterError as error:
                one_line(error)
                outcomes["refused"] += 1
                seen.add((name, False))
            else:
                accepted(points)
                outcomes["accepted"] += 1
                seen.add((name, True))

    fuzz()
    assert sum(outcomes.values()) >= TOTAL
    # a fuzzer that only ever sees one side of the fence tests nothing
    assert min(outcomes.values()) > TOTAL // 10
    assert seen == {(name, side) for name in TYPES for side in (True, False)}


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(sorted(TYPES)), ATOMS, max_size=3), min_size=1, max_size=3))
def test_texts_in_a_file_are_typed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_text(yaml.safe_dump(rows), encoding="utf-8")
    try:
        points = grid.points(DECLARED, PROFILES, [], file=file, where="toy.yml")
    except ParameterError as error:
        one_line(error)
    else:
        accepted(points)
        assert sum(point.times for point in points) == len(rows)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from(["csv", "yaml"]),
)
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str
) -> None:
    file: Path = tmp_path_factory.getbasetemp() / f"bytes.{kind}"
    file.write_bytes(content)
    try:
        accepted(grid.points(DECLARED, PROFILES, [], file=file, where="toy.yml"))
    except ParameterError as error:
        one_line(error)
