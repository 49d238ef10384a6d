"""`report.html` in Chromium: it loads, asks for nothing, and can be read on small and large screens, light and dark."""

import pytest

from experiments.report.write import PAGE_NAME, write_report
from tests.support.results import make_results


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(make_results(), folder)
    return (folder / PAGE_NAME).as_uri()


def test_every_picture_is_loaded(page):
    pictures = page.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
    assert len(pictures) > 5
    assert all(complete and width > 0 for complete, width in pictures)


def test_nothing_is_wider_than_the_screen(page):
    assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
    assert page.locator("svg:visible").count() > 3


def test_the_answer_is_on_the_first_screen(page):
    answer = page.locator(".answer").bounding_box()
    assert 0 <= answer["y"] < answer["y"] + answer["height"] < 450
    assert page.locator("section svg:visible").first.bounding_box()["y"] < 900


def test_text_can_be_told_from_its_ground(page):
    """By the contrast of WCAG 2, at least 4.5 for text, also in charts."""
    contrasts = page.evaluate(
        """() => {
            const channels = text => (text.match(/[\\d.]+/g) || []).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
                .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
                .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
            const ground = element => {
                for (let each = element; each; each = each.parentElement) {
                    const color = channels(getComputedStyle(each).backgroundColor);
                    if (color.length === 3 || color[3] === 1) return color;
                }
                return [255, 255, 255];
            };
            const found = [];
            for (const selector of ['.answer', '.note', '.caveats', 'th', 'td', '.tiles b', '.tiles span', '.wrong',
                                    '.right', 'summary', 'section > div[role=img] svg text']) {
                const element = [...document.querySelectorAll(selector)].find(each => each.getClientRects().length);
                if (!element) continue;
                const style = getComputedStyle(element);
                const ink = channels(element instanceof SVGElement ? style.fill : style.color);
                const pair = [light(ink), light(ground(element.closest('section') || element))].sort((a, b) => b - a);
                found.push([selector, (pair[0] + 0.05) / (pair[1] + 0.05)]);
            }
            return found;
        }"""
    )
    assert len(contrasts) >= 10
    assert {selector: ratio for selector, ratio in contrasts if ratio < 4.5} == {}


def test_differences_are_shown_by_the_keyboard(page):
    box = page.get_by_label("Show the difference to the original")
    view = page.locator(".picture .shown").first
    assert view.evaluate("element => getComputedStyle(element).mixBlendMode") == "normal"
    box.focus()
    page.keyboard.press("Space")
    assert box.is_checked()
    assert view.evaluate("element => getComputedStyle(element).mixBlendMode") == "difference"
    lossy = page.locator(".picture.lossy").first
    ground = lossy.evaluate("element => getComputedStyle(element, '::before').backgroundImage")
    assert ground.startswith('url("data:image/webp')


def test_a_screen_reader_finds_its_way(page):
    """One heading of the first level, tables with headings, names for charts, pictures and what scrolls."""
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("columnheader", name="bytes").count() >= 1
    assert page.get_by_role("rowheader", name="latents-3072").count() >= 1
    assert page.get_by_role("img", name="accuracy by stored bytes").count() == 1
    assert page.evaluate("[...document.images].every(image => image.alt !== '')")
    assert page.get_by_role("region", name="table of all conditions").get_attribute("tabindex") == "0"


def test_it_can_be_printed(page):
    assert len(page.pdf(format="A4")) > 20_000
