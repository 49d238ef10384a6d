"""`report.html`: one file, from the results alone."""

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from experiments.report.charts import NARROW, WIDE, curve
from experiments.report.page import render
from tests.support.results import make_results


class Page(HTMLParser):
    """The addresses, headings and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.tags, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action") and value]

    def handle_data(self, data):
        self.texts.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def page(results):
    return render(results)


def test_the_page_needs_nothing_from_elsewhere(page):
    found = Page(page)
    assert {address[:5] for address in found.addresses} == {"data:"} | {a[:5] for a in found.addresses if a[0] == "#"}
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert not re.search(r"url\((?!'data:|#)", page)


def test_the_answer_comes_first_and_the_caveats_before_the_table(results, page):
    order = [page.index(results.answer.sentence), page.index("<svg"), page.index("All conditions")]
    order += [page.index("What it costs"), page.index("What the model saw"), page.index("Where the numbers come from")]
    assert order == sorted(order)
    assert page.index(results.answer.notes[0]) < page.index("All conditions")


def test_every_part_is_there(page):
    texts = Page(page).texts
    for text in ("Training", "Confusions", "Latents", "conditions disagree", "✓ cat", "before the model"):
        assert any(text in each for each in texts), text
    assert any(
        "It has paid" in each or "it has paid for itself after 5.2 epochs (5.0 by the rates" in each for each in texts
    )


def test_parts_without_figures_are_left_out(results):
    bare = dataclasses.replace(
        results,
        samples=[],
        statistics=[],
        break_even=[],
        conditions=[
            dataclasses.replace(
                each, costs=type(each.costs)(), runs=[dataclasses.replace(run, history=[]) for run in each.runs]
            )
            for each in results.conditions
        ],
    )
    text = render(bare)
    for heading in ("What it costs", "What the model saw", "<h2>Training", "<h2>Latents"):
        assert heading not in text


def test_the_same_results_give_the_same_page(results):
    assert render(results) == render(make_results())


def test_curves_are_drawn_for_wide_and_narrow_screens(results):
    for size in (WIDE, NARROW):
        root = ElementTree.fromstring(curve(results, size))
        texts = ["".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")]
        assert {"pixels", "latents", "JPEG files", "3,072"} <= set(texts)


def test_a_single_condition_has_a_page():
    text = render(make_results(6, 1, {"pixels-16": 0.5}))
    assert "there is no condition `full`" in text
