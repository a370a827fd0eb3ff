"""The file of claims: what is right is read, and what is wrong is one clear line, before anything runs."""

import pytest
import yaml
from ledger_book import CLAIMS
from made_claims import claim, content, deciding_test

from repro.book.claims import load
from repro.book.errors import BadInput
from repro.book.judging import Criterion


def written(folder, text):
    (folder / "toy.yml").write_text(text)
    return folder / "toy.yml"


def refused(folder, text):
    """The one line that says what is wrong with a file."""
    with pytest.raises(BadInput) as error:
        load(written(folder, text))
    assert str(error.value).startswith("toy.yml")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_file_is_read(tmp_path):
    between = deciding_test(claim="between [ -1, 2.5e-1]", margin=None)
    found = load(written(tmp_path, yaml.safe_dump(content(claim("T1", between)))))
    assert found.claim("T1").deciding[0].criterion == Criterion("between", (-1.0, 0.25))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"margin": 0}, ".margin: Input should be greater than 0, found 0"),
        ({"claim": "between [0, 1]"}, "margin is 0.5; accepted: none, for between and worst"),
        ({"claim": "over 0"}, "claim is 'over 0'; accepted: above T, below T or between [a, b]"),
        ({"claim": "between [1, 0]", "margin": None}, "accepted for between: [a, b] with a < b"),
        ({"claim": "above 0.1234567"}, "accepted: six significant digits"),
        ({"claim": "above .5", "statistic": "share"}, "lie at 0.5 and 1; accepted: between 0 and 1"),
        ({"seeds": None}, "seeds is missing"),
        ({"profiles": ["paper"]}, "profiles is ['paper'] without otherwise"),
        ({"margn": 1}, ".margn: unknown key; did you mean 'margin'?"),
    ],
)
def test_what_is_wrong_with_a_test(tmp_path, wrong, expected):
    told = refused(tmp_path, yaml.safe_dump(content(claim("T1", deciding_test(**wrong)))))
    assert told.startswith("toy.yml: claims.T1.deciding.dense")
    assert expected in told


ONE = deciding_test()
TWO = {"name": "dense", "metric": "m", "unit": "u", "scale": "small"}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ([claim("T1")], "claims.T1.deciding: "),
        ([claim("T1", ONE, supporting=[TWO])], "T1: test name 'dense' stands twice"),
        ([claim("T1", ONE, kind="control", together="readings")], "T1: together is 'readings'"),
        (
            [claim(f"T{k}", ONE, headline=True) for k in range(6)],
            "headline is true for T0, T1, T2, T3, T4, T5",
        ),
        ([claim("T1", ONE), claim("T1", ONE)], "claim id 'T1' stands twice"),
        ([claim("T1", deciding_test(seeds="rate"))], "claim T1: test dense: seeds is 'rate'"),
    ],
)
def test_what_is_wrong_with_claims(tmp_path, claims, expected):
    assert expected in refused(tmp_path, yaml.safe_dump(content(*claims)))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("margin: 0.2\n", "margin: 5e-1\n", "in YAML 1.0e-6, not 1e-6"),
        ("  quick: {n: 10,", "  quick: {", "profile quick has no value for n"),
        ("seed: 500000", "seed: 7", "profile quick: seed is 7; accepted: 500000 to 1000000"),
        ("chapter: toy", "chapter: toi", "accepted: the file's name, 'toy'"),
        ("where: table 1", "where: table 1\n    where: table 2", "the key 'where' stands twice"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, old, new, expected):
    assert old in CLAIMS
    assert expected in refused(tmp_path, CLAIMS.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "- 1", "\x00", "a: !!bool x", "a: " + "[" * 3000, "\udcff", None])
def test_a_file_that_is_no_mapping(tmp_path, text):
    if text is not None:
        (tmp_path / "toy.yml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadInput, match=r"toy\.yml"):
        load(tmp_path / "toy.yml")
