"""The page that people look at, in a real browser: it shows the top, follows changes and comes back by itself."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.e2e.play import raise_someone_in_the_top
from tests.support.browser import running_browser
from tests.support.client import Client
from tests.support.instance import Instance

RECOVERY_MILLISECONDS = 60_000


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context()
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext, instance: Instance) -> Page:
    page = await context.new_page()
    await page.goto(instance.url)
    await expect(page.locator("#state")).to_have_attribute("data-state", "live")
    return page


async def expect_score(page: Page, user_id: str, score: int) -> None:
    """The row of ``user_id`` shows ``score``."""
    row = page.locator(f'li[data-user="{user_id}"] .score')
    await expect(row).to_have_text(f"{score:,}", timeout=RECOVERY_MILLISECONDS)


async def test_the_page_shows_the_top(page: Page, client: Client) -> None:
    """Rank, name and score of each entry, in order, as GET has them."""
    user_id, score = await raise_someone_in_the_top(client)
    await expect_score(page, user_id, score)
    rankings = (await client.top())["rankings"]
    await expect(page.locator("#ranking li .rank")).to_have_text([str(entry["rank"]) for entry in rankings])
    users = await page.locator("#ranking li").evaluate_all("rows => rows.map(row => row.dataset.user)")
    assert users == [entry["userId"] for entry in rankings]


async def test_the_page_follows_a_change(page: Page, client: Client) -> None:
    """A change shows without a reload."""
    for _ in range(2):
        await expect_score(page, *await raise_someone_in_the_top(client))


async def test_the_page_survives_a_lost_network(page: Page, context: BrowserContext, client: Client) -> None:
    """It says that it is offline, keeps what it shows, and catches up when the network is back."""
    shown = await page.locator("#ranking li").count()
    await context.set_offline(True)
    await expect(page.locator("#state")).to_have_attribute("data-state", "offline")
    assert await page.locator("#ranking li").count() == shown
    user_id, score = await raise_someone_in_the_top(client)
    await context.set_offline(False)
    await expect(page.locator("#state")).to_have_attribute("data-state", "live", timeout=RECOVERY_MILLISECONDS)
    await expect_score(page, user_id, score)


async def test_the_page_survives_the_loss_of_its_pod(page: Page, client: Client, instance: Instance) -> None:
    """When the pods behind it are replaced it reconnects by itself."""
    instance.kubectl(
        "delete", "pod", "-l", f"app.kubernetes.io/instance={instance.name},app.kubernetes.io/component=scoreboard"
    )
    instance.wait_settled()
    await expect(page.locator("#state")).to_have_attribute("data-state", "live", timeout=RECOVERY_MILLISECONDS)
    await expect_score(page, *await raise_someone_in_the_top(client))


async def test_a_name_is_text(page: Page, client: Client) -> None:
    """A player's name is shown as it is, never run."""
    name = "<img src=x onerror=alert(1)>"
    user_id, _ = await raise_someone_in_the_top(client, username=name)
    await expect(page.locator(f'li[data-user="{user_id}"] .name')).to_contain_text(name)
    assert await page.locator("#ranking img").count() == 0


async def test_the_page_needs_nothing_from_elsewhere(context: BrowserContext, instance: Instance) -> None:
    """All it loads comes from its own address, and its content policy has nothing to complain about."""
    page = await context.new_page()
    asked: list[str] = []
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    page.on("request", lambda request: asked.append(request.url))
    page.on("console", note)
    await page.goto(instance.url)
    await expect(page.locator("#state")).to_have_attribute("data-state", "live")
    assert [url for url in asked if not url.startswith(instance.url)] == []
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone_in_both_themes(browser: Browser, instance: Instance, scheme: str) -> None:
    """On a narrow screen nothing sticks out, and the theme follows the system."""
    context = await browser.new_context(viewport={"width": 360, "height": 700}, color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto(instance.url)
    await expect(page.locator("#ranking li").first).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in background[4:-1].split(",")) > 382) == (scheme == "light")
    await context.close()
