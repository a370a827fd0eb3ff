"""Numbers in prose: what the rule finds, what it lets pass, and sentences filled from a run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.book.errors import BadInput
from repro.book.prose import _sentence, numbers_typed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The accuracy was 0.93.", ["0.93"]),
        ("It rose by 5% and 7 percent.", ["5%", "7 percent"]),
        ("Over 20 seeds, p<0.05.", ["20", "0.05"]),
        ("below 1e-6", ["1e-6"]),
        ("between 0.5-0.7 and −0.35", ["0.5", "0.7", "0.35"]),
        ("### A heading of 0.4", ["0.4"]),
        ("*0.4* **0.5** [0.6](https://x.org/7.5)", ["0.4", "0.5", "0.6"]),
        ("| a | 0.25 |\n|---|---|\n| b | 17 |", ["0.25", "17"]),
        ("```{note} Title 0.9\n:class: x-0.4\n\ninside 0.81\n```", ["0.9", "0.81"]),
        ("````{admonition} A\n```{note}\ndeep 0.71\n```\n````", ["0.71"]),
        ("<details><summary>0.66</summary></details>", ["0.66"]),
        ("![a line at 0.5](x.png)", ["0.5"]),
        ("level of 95 % of the rows", ["95 %"]),
    ],
)
def test_found(text, expected):
    assert [found.text for found in numbers_typed(text)] == expected


@pytest.mark.parametrize(
    "text",
    [
        "twelve seeds, 12 seeds, 0 seeds",
        "LeNet-300-100, ResNet-20, CIFAR-10, mnist5k, E14, float64",
        "in 2020, the 1990s, on 2026-11-21, version 1.2.3",
        "[arXiv:2010.12909](https://arxiv.org/abs/2010.12909), arXiv 2010.12909",
        "<https://arxiv.org/abs/2010.12909>",
        "Section 4.1, Sections 4.1 and 4.2, Table 14, (Figure 20), Theorem 3.2, pages 20-30, Python 3.11",
        "the 95 % interval, a 95 % confidence interval, 95 % bootstrap intervals",
        "$x = 0.5$ and $$y = 0.25$$",
        "$$\nx = 0.5\n$$",
        "\\begin{equation}\nx = 0.5\n\\end{equation}",
        "```python\nx = 0.5\n```",
        "```{math}\nx = 0.5\n```",
        "{math}`0.5` {cite:p}`a2020`",
        "<code>0.5</code>\n\n<pre>\n0.5\n</pre>",
        "% a comment with 0.5",
        "(label-0.5)=\n## Title",
    ],
)
def test_let_pass(text):
    assert numbers_typed(text) == []


def test_quoted_numbers_pass_whatever_their_unit():
    text = "98.34 %, 98.34 and -98.34, but 98.35"
    assert [found.text for found in numbers_typed(text, [98.34])] == ["98.35"]


@given(
    st.floats(0.001, 1000).map(lambda x: f"{x:.3f}"), st.sampled_from(["was {}", "({})", "{}, then", "a={};"])
)
def test_every_decimal_number_is_found_in_text_and_none_in_code(number, template):
    text = template.format(number)
    assert [found.text for found in numbers_typed(text)] == [number]
    assert numbers_typed(template.format(f"`{number}`")) == []
    assert numbers_typed(text, [float(number)]) == []


def test_a_sentence():
    text = _sentence("Over {n} seeds the gain is {gain:.1f} % of $10^{{-3}}$.", n=20, gain=3.14159)
    assert text == "Over 20 seeds the gain is 3.1 % of $10^{-3}$."


@pytest.mark.parametrize(
    ("template", "values", "expected"),
    [
        ("It was 0.93, not {x}.", {"x": 1}, "a number typed by hand: 0.93"),
        ("{los:.2f}", {"loss": 1.0}, "could not be filled: KeyError: 'los'"),
        ("{a}", {"a": 1, "b": 2}, "the value 'b' has no place"),
        ("{x:.2f}", {"x": float("nan")}, "x is nan: a sentence takes finite numbers"),
        ("{x", {"x": 1.0}, "could not be filled"),
    ],
)
def test_bad_sentences(template, values, expected):
    with pytest.raises(BadInput) as error:
        _sentence(template, **values)
    assert expected in str(error.value)
