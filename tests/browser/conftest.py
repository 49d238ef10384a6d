"""A page in Chromium, on small and large screens, light and dark."""

import itertools
import os
import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (400, 1400)
SCHEMES = ("light", "dark")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync")


def find_chromium() -> str | None:
    return os.environ.get("CDL_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="session")
def browser():
    executable = find_chromium()
    if executable is None:
        if os.environ.get("CDL_REQUIRE_BROWSER"):
            pytest.fail("no Chromium; `make browser` installs Debian's")
        pytest.skip("no Chromium; `make browser` installs Debian's, CDL_CHROMIUM names another one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=list(OPTIONS))
        yield chromium
        chromium.close()


@pytest.fixture(params=list(itertools.product(WIDTHS, SCHEMES)), ids=lambda each: f"{each[0]}-{each[1]}")
def page(request, browser, address):
    """The loaded page, of whose messages, errors and requests nothing may be left."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened, found = context.new_page(), []
    opened.on("console", lambda message: found.append(f"console: {message.text}"))
    opened.on("pageerror", lambda error: found.append(f"error: {error}"))
    opened.on("requestfailed", lambda asked: found.append(f"failed: {asked.url[:80]}"))
    opened.on("request", lambda asked: asked.url == address or asked.url.startswith("data:") or found.append(asked.url))
    opened.goto(address)
    yield opened
    context.close()
    assert found == []
