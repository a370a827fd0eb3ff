"""Axes, zipped axes and files of points against grids written out by hand or by slow loops."""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.book.errors import ParameterError
from repro.book.parameters import read_cell
from repro.book.sweep import axes, grid
from repro.book.sweep.grid import Point

CELL = """profile: str = "quick"  # {smoke, quick, paper} how much
seed: int = 0  # [0, 10000000] the first seed
n: int = None  # [1, 1000] how many
rate: float = 0.5  # [-1, 1] a share
scale: float = 1.0  # any size
dataset: str = "digits"  # {digits, mnist5k} which data
label: str = "a"  # any text
loud: bool = True  # whether to print"""
DECLARED = read_cell(CELL)
PROFILES = {"smoke": {"n": 1}, "quick": {"n": 4}, "paper": {"n": 5}}


def points(*texts: str, **options: Any) -> list[Point]:
    return grid.points(DECLARED, PROFILES, texts, where="toy.yml", **options)


def values(*texts: str, **options: Any) -> list[dict[str, Any]]:
    return [point.values for point in points(*texts, **options)]


def axis(name: str, text: str) -> list[Any]:
    return list(axes.axis_values(next(p for p in DECLARED if p.name == name), text))


def refused(*texts: str, **options: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        points(*texts, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("seed", "3", [3]),
        ("seed", "4, 0 ,2", [4, 0, 2]),
        ("seed", "0..4", [0, 1, 2, 3, 4]),
        ("seed", "7..7", [7]),
        ("seed", "0..100..25", [0, 25, 50, 75, 100]),
        ("seed", "0..9..4", [0, 4, 8]),
        ("seed", "0..2,10,20..24..2", [0, 1, 2, 10, 20, 22, 24]),
        ("seed", "1_000..1_002", [1000, 1001, 1002]),
        ("seed", "linspace(0, 100, 5)", [0, 25, 50, 75, 100]),
        ("seed", "logspace(0, 3, 4)", [1, 10, 100, 1000]),
        ("seed", "geomspace(1, 1000, 4)", [1, 10, 100, 1000]),
        ("n", "none,7", [None, 7]),
        ("rate", "-1..1", [-1.0, 0.0, 1.0]),
        ("rate", ".5,1e-3", [0.5, 0.001]),
        ("rate", "linspace(0, 1, 5)", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("rate", "linspace(0.1,0.3,3)", [0.1, 0.2, 0.3]),
        ("rate", "linspace(1, -1, 3)", [1.0, 0.0, -1.0]),
        ("rate", " linspace ( 0.5 , 1 , 1 ) ", [0.5]),
        ("rate", "logspace(-4, -1, 4)", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("rate", "geomspace(1e-4, 1e-1, 4)", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("dataset", "digits,mnist5k", ["digits", "mnist5k"]),
        ("label", '"a,b", c d ,O\'Brien,"say ""hi"""', ["a,b", "c d", "O'Brien", 'say "hi"']),
        ("label", 'x, "a,b"', ["x", "a,b"]),
        ("label", '"linspace(0, 1, 5)"', ["linspace(0, 1, 5)"]),
        ("label", "../data", ["../data"]),
        ("label", "a=b", ["a=b"]),
        ("loud", "true,False", [True, False]),
    ],
)
def test_an_axis_stands_for_these_values(name: str, text: str, expected: list[object]) -> None:
    found = axis(name, text)
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))
    assert [point.values[name] for point in points(f"{name}={text}")] == expected


@given(st.integers(0, 3000), st.integers(0, 60), st.integers(1, 20))
def test_a_range_counts_like_a_slow_loop(first: int, length: int, step: int) -> None:
    expected, number = [], first
    while number <= first + length:
        expected.append(number)
        number += step
    assert axis("seed", f"{first}..{first + length}..{step}") == expected


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.integers(2, 9))
def test_linspace_is_the_formula_to_fifteen_digits(first: float, last: float, count: int) -> None:
    found = axis("scale", f"linspace({first!r}, {last!r}, {count})")
    size = max(abs(first), abs(last))
    for i, number in enumerate(found):
        expected = first + (last - first) * i / (count - 1)
        assert math.isclose(number, expected, rel_tol=1e-14, abs_tol=1e-14 * size)


@given(st.floats(-9, 9), st.floats(-9, 9), st.integers(2, 9))
def test_logspace_is_geomspace_between_powers_of_ten(low: float, high: float, count: int) -> None:
    by_exponent = axis("scale", f"logspace({low!r}, {high!r}, {count})")
    by_value = axis("scale", f"geomspace({10**low!r}, {10**high!r}, {count})")
    by_formula = [10 ** (low + (high - low) * i / (count - 1)) for i in range(count)]
    assert by_exponent == pytest.approx(by_formula, rel=1e-12)
    assert by_value == pytest.approx(by_formula, rel=1e-12)


def test_axes_are_crossed_and_the_last_runs_fastest() -> None:
    found = values("seed=0..2", "dataset=digits,mnist5k", "rate=0.5,0.25")
    expected = [
        {"seed": seed, "dataset": dataset, "rate": rate}
        for seed in (0, 1, 2)
        for dataset in ("digits", "mnist5k")
        for rate in (0.5, 0.25)
    ]
    assert found == expected


def test_zipped_axes_advance_together_in_the_place_of_the_first() -> None:
    found = values("seed=0,1,2", "loud=true,false", "n=7,8,9", zipped=["n", "seed"])
    expected = [
        {"seed": seed, "n": n, "loud": loud} for seed, n in ((0, 7), (1, 8), (2, 9)) for loud in (True, False)
    ]
    assert found == expected


@given(st.permutations(["seed", "n", "rate"]), st.integers(1, 4), st.integers(1, 4))
def test_zipped_is_the_diagonal_of_crossed(names: list[str], length: int, other: int) -> None:
    texts = {"seed": f"1..{length}", "n": f"1..{length}", "rate": f"linspace(0, 1, {other})"}
    crossed = values(*(f"{name}={texts[name]}" for name in names))
    zipped = values(*(f"{name}={texts[name]}" for name in names), zipped=["seed", "n"])
    assert zipped == [value for value in crossed if value["seed"] == value["n"]]
    assert len(zipped) == length * other


def test_a_point_is_resolved_and_its_id_is_that_of_the_resolved_values() -> None:
    (point,) = points("rate=1e-1", common={"profile": "smoke"})
    assert point.values == {"profile": "smoke", "rate": 0.1}
    assert point.resolved == {
        "profile": "smoke",
        "seed": 0,
        "n": 1,
        "rate": 0.1,
        "scale": 1.0,
        "dataset": "digits",
        "label": "a",
        "loud": True,
    }
    text = (
        '{"dataset":"digits","label":"a","loud":true,"n":1,"profile":"smoke","rate":0.1,"scale":1.0,"seed":0}'
    )
    assert point.id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_what_is_not_asked_for_does_not_change_the_id_and_what_differs_does() -> None:
    (plain,) = points()
    assert plain.values == {}
    assert [p.id for p in points("n=4", "seed=0", "profile=quick", "label=a")] == [plain.id]
    others = {
        p.id for text in ("n=5", "seed=1", "profile=smoke", "label=ä", "loud=false") for p in points(text)
    }
    assert len(others | {plain.id}) == 6


def test_the_profile_can_be_an_axis() -> None:
    assert [point.resolved["n"] for point in points("profile=smoke,quick,paper")] == [1, 4, 5]


def test_repeated_points_are_merged_and_said() -> None:
    found = points("seed=0..2,1,1", "n=4,none")
    assert [point.values["seed"] for point in found] == [0, 1, 2]
    assert [point.times for point in found] == [2, 6, 2]
    assert grid.repeated(found) == "7 of 10 points repeat another and are run once"
    assert grid.repeated(points("seed=0..2")) is None
    assert len(points("rate=-0.0,0.0")) == 1


TABLE = 'seed, rate ,label\n0,0.5,plain\n\n1,1e-3,"with, comma"\n'
LIST = "- {seed: 0, rate: 0.5, label: plain}\n- seed: 1\n  rate: 1e-3\n  label: with, comma\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", TABLE),
        ("p.CSV", "\ufeff" + TABLE),
        ("p.csv", TABLE.replace("\n", "\r\n")),
        ("p.yaml", LIST),
        ("p.yml", LIST),
    ],
)
def test_a_file_of_points_is_crossed_with_the_axes(tmp_path: Path, name: str, text: str) -> None:
    rows = [{"seed": 0, "rate": 0.5, "label": "plain"}, {"seed": 1, "rate": 0.001, "label": "with, comma"}]
    file = written(tmp_path, name, text)
    assert values(file=file) == rows
    crossed = values("n=2,3", file=file, common={"loud": False})
    assert crossed == [{"loud": False, **row, "n": n} for row in rows for n in (2, 3)]


def test_yaml_is_read_as_typed_on_a_command_line(tmp_path: Path) -> None:
    file = written(
        tmp_path, "p.yaml", "- {label: no, seed: 010}\n- {label: '1', loud: True, n: none}\n- {}\n"
    )
    assert values(file=file) == [{"label": "no", "seed": 10}, {"label": "1", "loud": True, "n": None}, {}]


@given(
    st.lists(st.tuples(st.integers(0, 999), st.floats(-1, 1), st.sampled_from("abc,\"' é\u2028")), max_size=9)
)
def test_a_csv_written_by_the_library_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, str]]
) -> None:
    file = tmp_path_factory.mktemp("csv") / "points.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("seed", "rate", "label"), *rows, (1000, 0.0, "z")])
    found = grid.points(DECLARED, PROFILES, [], file=file, where="toy.yml")
    expected = {(seed, repr(rate + 0.0), label.strip()) for seed, rate, label in [*rows, (1000, 0.0, "z")]}
    assert {(p.values["seed"], repr(p.values["rate"]), p.values["label"]) for p in found} == expected
    assert sum(point.times for point in found) == len(rows) + 1


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("seed", "'seed'"),
        ("sead=1", "did you mean 'seed'"),
        ("se\ned=1", r"'se\ned'"),
        ("seed=", "seed='' has no value"),
        ("seed=  ", "has no value"),
        ("seed=1,,2", "seed='1,,2' has an empty value"),
        ("label=a,", "label='a,' has an empty value"),
        ("seed=1.0", "got '1.0'"),
        ("seed=1e3", "got '1e3'"),
        ("seed=-1", "got -1"),
        ("seed=9..0", "'9..0' of seed runs backwards"),
        ("seed=0..9..0", "'0..9..0' of seed has the step 0"),
        ("seed=9..0..-1", "has the step -1"),
        ("seed=0.5..2", "'0.5..2'"),
        ("seed=0...5", "'0...5'"),
        ("seed=1..", "'1..'"),
        ("seed=a..b", "'a..b'"),
        ("seed=1..2..3..4", "'1..2..3..4'"),
        ("seed=0..100000", "more than the 100,000 points"),
        pytest.param(f"scale=0..{10**299}", "more than the 100,000 points", id="300 digits"),
        pytest.param("scale=0..1" + 5000 * "0", "is not FIRST..LAST", id="5000 digits"),
        ("rate=0..5", "got 2"),
        ("rate=linspace(0, 1)", "'linspace(0, 1)' is not linspace(FIRST, LAST, COUNT)"),
        ("rate=linspace()", "is not linspace(FIRST, LAST, COUNT)"),
        ("rate=linspace(0, x, 3)", "'linspace(0, x, 3)'"),
        ("rate=linspace(0, 1, 2, 3)", "'linspace(0, 1, 2, 3)'"),
        ("rate=linspace(0, 1, 1e1)", "'linspace(0, 1, 1e1)'"),
        ("rate=linspace(0, nan, 3)", "'linspace(0, nan, 3)'"),
        ("rate=linspace(0, inf, 3)", "'linspace(0, inf, 3)'"),
        ("rate=linspace(0, 1, 0)", "its count is 0"),
        ("rate=linspace(0, 1, -3)", "its count is -3"),
        ("rate=linspace(0, 1, 100001)", "more than the 100,000 points"),
        ("rate=linspace(0, 2, 3)", "got 2"),
        ("rate=linspace(0, 1, 3),0.2", "got 'linspace(0'"),
        ("scale=linspace(-1.7e308, 1.7e308, 3)", "beyond the largest number"),
        ("scale=logspace(0, 400, 3)", "beyond the largest number"),
        ("scale=geomspace(0, 1, 3)", "two positive numbers, got 0 and 1"),
        ("scale=geomspace(-1, 1, 3)", "two positive numbers, got -1 and 1"),
        ("scale=inf", "got inf"),
        ("seed=linspace(0, 1, 3)", "makes 0.5, but seed takes whole numbers"),
        ("label=linspace(0, 1, 3)", "label is of type str"),
        ("loud=linspace(0, 1, 2)", "loud is of type bool"),
        ("loud=yes", "got 'yes'"),
        ("loud=0..1", "got '0..1'"),
        ("dataset=digits,mnist", "did you mean 'mnist5k'"),
        ('label="a', "by the rules of CSV"),
        ('label="a"b', "by the rules of CSV"),
        ("label=a\nb", r"label='a\nb'"),
        ("label=\udc80", r"got '\udc80'"),
        pytest.param("label=" + "x" * 200_000, "by the rules of CSV", id="200,000 letters"),
    ],
)
def test_a_wrong_axis_is_refused_with_its_value(text: str, quoted: str) -> None:
    message = refused("rate=0.5" if not text.startswith("rate") else "seed=0", text)
    assert quoted in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("texts", "options", "quoted"),
    [
        (["seed=1", "seed=2"], {}, "the axis seed is given twice, the second time as 'seed=2'"),
        (["seed=1,2", "n=1"], {"zipped": ["seed", "n"]}, "seed has 2, n has 1"),
        (["seed=1,2", "n=1"], {"zipped": ["seed", "rate"]}, "there is no axis 'rate'; known: seed, n"),
        (["seed=1,2", "n=1"], {"zipped": ["seed", "seed"]}, "seed is named twice"),
        (["seed=1,2"], {"zipped": ["seed"]}, "'seed', cannot be zipped"),
        ([], {"zipped": ["seed", "n"]}, "there are none"),
        (["profile=smoke"], {"common": {"profile": "quick"}}, "profile is given twice"),
        ([], {"common": {"profil": "quick"}}, "did you mean 'profile'"),
        ([], {"common": {"seed": 1.5}}, "got 1.5 (float)"),
        (["seed=0..999", "n=1..101"], {}, "1000 x 101 = 101,000 points"),
    ],
)
def test_a_wrong_grid_is_refused(texts: list[str], options: dict[str, Any], quoted: str) -> None:
    assert quoted in refused(*texts, **options)


def test_a_profile_that_gives_no_value_is_refused_before_anything_starts() -> None:
    with pytest.raises(ParameterError, match=r"^toy.yml: profile 'paper' gives no value for 'n'$"):
        grid.points(DECLARED, PROFILES | {"paper": {}}, ["profile=smoke,paper"], where="toy.yml")


@pytest.mark.parametrize(
    ("name", "text", "quoted"),
    [
        ("p.txt", "seed\n1\n", "got 'p.txt'"),
        ("p.csv", "", "has no points"),
        ("p.csv", "seed,n\n", "has no points"),
        ("p.csv", "seed,n\n1\n", "line 2: 1 cells, but the header has 2"),
        ("p.csv", "seed,sead\n1,2\n", "line 2: there is no parameter 'sead'"),
        ("p.csv", "seed,seed\n1,2\n", "line 2: seed is given twice"),
        ("p.csv", "seed\n1\nx\n", "line 3: seed takes a whole number, got 'x'"),
        ("p.csv", "seed,n\n1,\n", "n takes a whole number, got ''"),
        ("p.csv", "seed\n1..3\n", "got '1..3'"),
        ("p.csv", 'label\n"a\n', "broken CSV"),
        ("p.csv", b"label\n\xff\n", "is not UTF-8 text"),
        ("p.yaml", "", "has no points"),
        ("p.yaml", "[]", "has no points"),
        ("p.yaml", "seed: 1", "must be a list of points"),
        ("p.yaml", "- 1", "line 1: a point is a mapping"),
        ("p.yaml", "- {seed: [1, 2]}", "'seed' must have one plain value"),
        ("p.yaml", "- {[1]: 2}", "the name of a parameter is plain text"),
        ("p.yaml", "- {seed: 1}\n- {seed: 1, seed: 2}", "line 2: seed is given twice"),
        ("p.yaml", "- {seed: 1.5}", "got '1.5'"),
        ("p.yaml", "- {rate: .nan}", "got '.nan'"),
        ("p.yaml", "- {seed: ~}", "got '~'"),
        ("p.yaml", "- {seed: 1", "line 1: broken YAML"),
        ("p.yaml", "- {seed: 1}\n---\n- {seed: 2}", "broken YAML"),
        ("p.yaml", "- *seed", "broken YAML"),
        ("p.yaml", '- {label: "\\ud800"}', "takes Unicode text"),
        ("p.yaml", "- {label: \x07}", "broken YAML"),
        ("p.yaml", "[" * 5000, "broken YAML"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, name: str, text: str | bytes, quoted: str) -> None:
    assert quoted in refused(file=written(tmp_path, name, text))


def test_a_missing_or_crowded_file_and_a_name_given_twice_are_refused(tmp_path: Path) -> None:
    assert "could not read" in refused(file=tmp_path / "nowhere.csv")
    assert "could not read" in refused(
        file=tmp_path.joinpath("folder.csv").mkdir() or tmp_path / "folder.csv"
    )
    file = written(tmp_path, "p.csv", "seed,n\n1,2\n")
    assert "seed is an axis and stands in" in refused("seed=3", file=file)
    assert "seed is given twice" in refused(file=file, common={"seed": 3})
    assert "there is no axis 'n'" in refused("rate=0,1", file=file, zipped=["rate", "n"])
    crowd = written(tmp_path, "crowd.csv", "seed\n" + "1\n" * 100_001)
    assert "has 100,001 points" in refused(file=crowd)


def test_the_largest_grid_allowed_is_counted_exactly() -> None:
    sizes = [axis("seed", "0..99999"), axis("seed", "1..500"), axis("n", "1..200")]
    assert [len(size) for size in sizes] == [axes.MAX_POINTS, 500, 200]
    assert "1000 x 100 x 2 = 200,000" in refused("seed=1..1000", "n=1..100", "loud=true,false")
    product = list(itertools.product(range(1, 21), range(1, 16)))
    assert [(v["seed"], v["n"]) for v in values("seed=1..20", "n=1..15")] == product
