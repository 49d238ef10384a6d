"""Foreign text is shown as text: on terminals, in Markdown, in plots."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from walloc_cdl.errors import markdown_text, plot_text, terminal_text, utf8_text

NAMES = (
    "\x1b[31mred\x1b[0m",
    "two\nlines\rback\x08",
    "a|b",
    "<img src=x onerror=alert(1)>",
    "$\\frac{1$",
    "100 $ or $x^2$",
    "[link](https://example.com)",
    "![picture](x.png)",
    "`code` and **bold** and _italic_ and ~~gone~~",
    "# heading",
    "- item",
    "&lt;&#60;",
    "back\\slash \\| \\$",
    "right\u202eto left\u2066",
    "line\u2028paragraph\u2029",
    "caf\udce9",
    "\x85\x9b31m",
    "__init__",
)


@pytest.mark.parametrize("name", ["photo 1.jpg", "été", "猫", "t_shirt", "C#", "R&D", "1,000", "a-b", "🙂", "می‌شود"])
def test_ordinary_names_stay_as_they_are(name):
    assert terminal_text(name) == markdown_text(name) == plot_text(name) == utf8_text(name) == name


@given(st.one_of(st.sampled_from(NAMES), st.text(), st.text("\x1b\x9b\n\r|<>$_*`[]\\&~#-\udce9 ab")))
def test_nothing_that_a_terminal_obeys_is_left(text):
    for shown in (terminal_text(text), markdown_text(text), plot_text(text)):
        assert not [letter for letter in shown if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")]
        assert not set(shown) & set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
        shown.encode("utf-8")


@given(st.one_of(st.sampled_from(NAMES), st.text("|<>$_*`[]\\&~#-+=!(). ab1;", max_size=12)))
def test_markdown_shows_the_name_in_one_cell_of_a_table(text):
    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    wanted = terminal_text(" ".join(text.split()))
    row = renderer.parse(f"| name | next |\n| --- | --- |\n| {markdown_text(text)} | 1 |\n")
    cells = [token for token in row if token.type == "inline"]
    assert len(cells) == 4
    assert [child.type for child in cells[2].children or []] in ([], ["text"])
    assert cells[2].content == "" or cells[2].children[0].content == wanted
    assert "$" not in markdown_text(text).replace("\\\\", "").replace("\\$", "")


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("caf")])
def test_a_plot_shows_the_name_and_no_formula(name, recwarn):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0], [1], label=plot_text(name))
    axes.set_title(plot_text(name))
    axes.legend()
    figure.canvas.draw()
    text = axes.title
    shown, is_formula = text._preprocess_math(text.get_text())
    assert not is_formula
    assert shown.strip() == terminal_text(name)
    assert len(axes.get_legend().get_texts()) == 1
