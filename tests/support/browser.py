"""A real browser for tests of the live page: Debian's Chromium."""

import contextlib
from collections.abc import AsyncIterator

from playwright.async_api import Browser, async_playwright

from tests.support.processes import find_binary

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
"""For a browser run as root on a machine without a way to the outside."""


@contextlib.asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """A browser that runs inside the block."""
    async with async_playwright() as playwright:
        path = find_binary("chromium")
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()
