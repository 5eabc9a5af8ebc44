"""What tests do with a page in a browser: wait for it, check and photograph it."""

from typing import TYPE_CHECKING

import pytest

from tests.edge_runtime.view.conftest import NARROW, WIDE

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page


def wait_for(page: "Page", words: str) -> None:
    """Waits until the banner says these words, and no more."""
    wait_for_text(page, "#state", words)


def wait_for_text(page: "Page", place: str, words: str) -> None:
    """Waits until a place shows exactly these words; a slow machine may be STALE in between."""
    page.wait_for_function(
        "([place, words]) => document.querySelector(place).innerText === words",
        arg=[place, words],
        polling=50,  # ms: a busy machine paints seldom, and an answer goes after some seconds
    )


def take(page: "Page", screenshots: "Path", name: str, *more: dict[str, int]) -> None:
    """Screenshots of a large and of a small screen, and of more."""
    for size in (WIDE, NARROW, *more):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.wait_for_timeout(200)  # two turns of the page, which draws to the new size
        path = screenshots / f"{name}-{size['width']}x{size['height']}.png"
        page.screenshot(path=path)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.set_viewport_size(WIDE)  # type: ignore[arg-type]


def serious(page: "Page") -> list[str]:
    """What axe-core finds on the page that is serious."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    found = axe.Axe().run(page).response["violations"]
    return [each["id"] for each in found if each["impact"] in ("serious", "critical")]
