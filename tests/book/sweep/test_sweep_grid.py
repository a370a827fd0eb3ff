"""Axes, zipped axes and files of points against grids written out by hand or by slow loops, and against any text."""

import hashlib
import json
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from papermill.translators import PythonTranslator

from repro.book.errors import BadInput
from repro.book.parameters import _read_cell
from repro.book.sweep import grid

CELL = """profile: str = "quick"  # {smoke, quick, paper} how much
seed: int = 0  # [0, 10000000] the first seed
n: int = None  # [1, 1000] from the profile
rate: float = 0.5  # [-1, 1] a share
scale: float = 1.0  # any size
dataset: str = "digits"  # {digits, mnist5k} which data
label: str = "a"  # any text
loud: bool = True  # whether to print"""
DECLARED = _read_cell(CELL)
PROFILES = {"smoke": {"n": 1}, "quick": {"n": 4}, "paper": {"n": 5}}
TYPES = {p.name: {"int": int, "float": float, "str": str, "bool": bool}[p.type] for p in DECLARED}


def points(*texts, **options):
    return grid.points(DECLARED, PROFILES, texts, where="toy.yml", **options)


def asked(names, *texts, **options):
    """The values of these parameters, point by point."""
    return [tuple(point[name] for name in names.split()) for point in points(*texts, **options)]


def ids(*texts):
    return {grid.point_id(point) for point in points(*texts)}


def axis(name, text):
    return grid._axis_values(next(p for p in DECLARED if p.name == name), text)


def refused(*texts, **options):
    with pytest.raises(BadInput) as caught:
        points(*texts, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("seed", "4, 0 ,2", [4, 0, 2]),
        ("seed", "0..2,10,20..24..2", [0, 1, 2, 10, 20, 22, 24]),
        ("seed", "linspace(0, 100, 5)", [0, 25, 50, 75, 100]),
        ("n", "none,7", [None, 7]),
        ("rate", "linspace(0.1,0.3,3)", [0.1, 0.2, 0.3]),
        ("rate", "logspace(-4, -1, 4)", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("label", '"a,b", c d ,O\'Brien,"say ""hi"""', ["a,b", "c d", "O'Brien", 'say "hi"']),
        ("label", '"linspace(0, 1, 5)"', ["linspace(0, 1, 5)"]),
        ("label", "../data", ["../data"]),
    ],
)
def test_an_axis_stands_for_these_values(name, text, expected):
    found = axis(name, text)
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))
    assert asked(name, f"{name}={text}") == [(4 if value is None else value,) for value in expected]


@given(st.floats(-9, 9), st.floats(-9, 9), st.integers(2, 9))
def test_spaced_numbers_are_those_of_the_formulas(low, high, count):
    evenly = [low + (high - low) * i / (count - 1) for i in range(count)]
    powers = pytest.approx([10**exponent for exponent in evenly], rel=1e-12)
    assert axis("scale", f"linspace({low!r}, {high!r}, {count})") == pytest.approx(
        evenly, rel=1e-14, abs=1e-14
    )
    assert axis("scale", f"logspace({low!r}, {high!r}, {count})") == powers
    assert axis("scale", f"geomspace({10**low!r}, {10**high!r}, {count})") == powers


@given(st.permutations(["seed", "n", "rate"]), st.integers(1, 4), st.integers(1, 4))
def test_zipped_is_the_diagonal_of_crossed(names, length, other):
    axes = {"seed": f"1..{length}", "n": f"1..{length}", "rate": f"linspace(0, 1, {other})"}
    texts = [f"{name}={axes[name]}" for name in names]
    zipped = points(*texts, zipped=["seed", "n"])
    assert zipped == [point for point in points(*texts) if point["seed"] == point["n"]]
    assert len(zipped) == length * other


def test_a_point_is_all_values_and_its_id_that_of_them_asked_for_or_not():
    (plain,) = points()
    text = (
        '{"dataset":"digits","label":"a","loud":true,"n":4,"profile":"quick","rate":0.5,"scale":1.0,"seed":0}'
    )
    assert plain == json.loads(text)
    assert ids() == {hashlib.sha256(text.encode()).hexdigest()[:16]}
    assert ids("n=4,none", "seed=0", "profile=quick", "rate=0.5") == ids()
    assert ids("scale=0.0,-0.0") == ids("scale=0")
    others = ("n=5", "seed=1", "profile=smoke,paper", "label=ä", "loud=false")
    assert len(ids().union(*map(ids, others))) == 7


TABLE = 'seed, rate ,label\n0,0.5,plain\n\n1,1e-3,"with, comma"\n'
LIST = "- {seed: 0, rate: 0.5, label: plain}\n- seed: 1\n  rate: 1e-3\n  label: with, comma\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [("p.CSV", "\ufeff" + TABLE), ("p.csv", TABLE.replace("\n", "\r\n")), ("p.yaml", LIST), ("p.yml", LIST)],
)
def test_a_file_of_points_is_crossed_with_the_axes(tmp_path, name, text):
    (file := tmp_path / name).write_bytes(text.encode())
    rows = [(0, 0.5, "plain"), (1, 0.001, "with, comma")]
    assert asked("seed rate label", file=file) == rows
    crossed = asked("seed rate label n", "n=2,3", file=file)
    assert crossed == [(*row, n) for row in rows for n in (2, 3)]


@pytest.mark.parametrize(
    ("texts", "zipped", "said"),
    [
        (["sead=1"], [], "did you mean 'seed'"),
        (["seed=1,,2"], [], "seed='1,,2' has an empty value"),
        (["seed=9..0"], [], "seed='9..0' goes nowhere"),
        (["seed=0..100000"], [], "more than the 100,000 points"),
        (["scale=geomspace(-1, 1, 3)"], [], "of geomspace above zero"),
        (["seed=1,2", "n=1"], ["seed", "n"], "seed has 2, n has 1"),
    ],
)
def test_a_wrong_grid_is_refused_with_its_value(texts, zipped, said):
    assert said in refused(*texts, zipped=zipped)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.csv", "seed,n\n1\n", "as long as the header"),
        ("p.csv", "seed\n1\nx\n", "point 2: seed takes a whole number in [0, 10000000], got 'x'"),
        ("p.yaml", "- {seed: [1, 2]}", "must be a list of points"),
        ("p.yaml", "- {n: 1}\n- {rate: 1}", "rate is an axis and stands in the file"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    assert said in refused("rate=0.5", file=tmp_path / name)


# --- any text becomes a value of the declared type, or one line of refusal -----------------------------------------

ODD = r"""
, none null nan inf -inf 1e400 -0.0 0x10 1__0 ٣ ½ yes 1j {1} 0.. ... 1..1 5..1 0..1e9 0..9..-1 0.5..1 1..2..3..4 4 4
linspace(0,1,2) logspace(0,999,2) geomspace(0,1,2) Digits " digits mnist5k smoke quick paper true FALSE
"""
TEXTS = (
    st.sampled_from(["", "\n", "9" * 400, "9" * 4001, "\x00", "\udc80", "é\u2028", *ODD.split()])
    | st.integers(-(10**300), 10**300).map(str)
    | st.floats().map(repr)
    | st.text("0123456789.,-+eE_ \"'()", max_size=8)
)


def accepted(text):
    try:
        found = points(text)
    except BadInput as error:
        said = str(error)
        assert len(said.splitlines()) == 1
        assert said.encode()  # can be printed
        return False
    # as a kernel gets them: as JSON to the worker, then as the code that papermill writes
    received = {}
    exec(PythonTranslator.codify(json.loads(json.dumps(found[-1]))), {}, received)
    assert received == found[-1]
    for point in (received, *found):
        assert {name: type(value) for name, value in point.items()} == TYPES
        for name, (low, high) in {"seed": (0, 10**7), "n": (1, 1000), "rate": (-1, 1)}.items():
            assert low <= point[name] <= high
        assert math.isfinite(point["scale"])
        assert point["dataset"] in ("digits", "mnist5k")
    return True


def test_a_thousand_texts_are_typed_or_refused():
    seen = Counter()

    @settings(max_examples=1000)
    @given(st.sampled_from(sorted(TYPES)), st.lists(TEXTS, min_size=1, max_size=2).map(",".join))
    def fuzz(name, text):
        seen[accepted(f"{name}={text}")] += 1

    fuzz()
    assert min(seen[True], seen[False]) > 100  # one that only sees one side of the fence tests nothing
