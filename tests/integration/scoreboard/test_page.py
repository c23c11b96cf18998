"""The live page in a real browser, on a network that fails: it says so, comes back by itself and never shows less."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, expect

from podium.common.settings import JwtSettings, RulesSettings
from tests.integration.scoreboard.services import BOARDS, TIERS, Issuer, Start
from tests.integration.scoreboard.support import Game, until
from tests.support.apps import run_service
from tests.support.browser import running_browser
from tests.support.network import Network, running_network
from tests.support.stores import environment_of

RECOVERY_MS = 20_000
"""How long the page may take to come back; far above its own times."""

WAKE_MS = 10_000
"""The same for a page that woke; well below two heartbeats of 25 s."""

SLEEP_SECONDS = 3.5

RECORDER = """
  window.shown = [];
  new MutationObserver(() => {
    const { epoch, version } = document.getElementById("version")?.dataset ?? {};
    if (version) window.shown.push([Number(epoch), Number(version)]);
  }).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-epoch", "data-version"] });
"""
"""Keeps each (epoch, version) that the page shows, in order."""

Visit = Callable[[Network], Awaitable[Page]]


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One browser for all tests."""
    async with running_browser() as running:
        yield running


@pytest.fixture
async def visit(browser: Browser) -> AsyncIterator[Visit]:
    """Open the page; at the end it must never have gone back, nor broken its own content policy."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_page(network: Network) -> Page:
            context = await browser.new_context()
            stack.push_async_callback(context.close)
            page = await context.new_page()
            await page.add_init_script(RECORDER)
            broken: list[str] = []

            def note(message: ConsoleMessage) -> None:
                if "Content Security Policy" in message.text:
                    broken.append(message.text)

            async def check() -> None:
                shown = [tuple(age) for age in await page.evaluate("window.shown")]
                assert shown
                assert shown == sorted(set(shown))
                assert broken == []

            page.on("console", note)
            stack.push_async_callback(check)
            await page.goto(network.url)
            return page

        yield open_page


def state(page: Page) -> Locator:
    """What the page says about its connection."""
    return page.locator("#state")


async def expect_state(page: Page, name: str) -> None:
    """The page comes to be in a state."""
    await expect(state(page)).to_have_attribute("data-state", name, timeout=RECOVERY_MS)


async def expect_score(page: Page, user: str, score: int, *, within_ms: int = RECOVERY_MS) -> None:
    """The row of a user comes to show a score."""
    await expect(page.locator(f'li[data-user="{user}"] .score')).to_have_text(f"{score}", timeout=within_ms)


async def test_a_cut_network_is_told_and_survived(start: Start, game: Game, visit: Visit) -> None:
    """What was shown stays, with its age and the time until the next try; then the newest is there."""
    pod, _ = await start()
    await game.score("ann", 1)
    async with running_network(pod.port) as network:
        page = await visit(network)
        await expect_score(page, "ann", 1)
        await expect_state(page, "live")
        await expect(page.locator("#age")).to_be_empty()
        network.cut()
        await expect_state(page, "reconnecting")
        await expect(state(page)).to_have_text(re.compile(r"Reconnecting\s*in \d+ s"))
        await expect(page.locator("#age")).to_contain_text("As it was")
        await expect(state(page)).to_have_role("status")
        await expect(page.locator("#wait")).to_have_attribute("aria-hidden", "true")
        await game.score("ann", 1)
        await expect_score(page, "ann", 1)
        network.heal()
        await expect_score(page, "ann", 2)
        await expect_state(page, "live")
        await expect(page.locator("#age")).to_be_empty()


async def test_a_page_without_a_network_is_offline(start: Start, game: Game, visit: Visit) -> None:
    """It says so where the browser knows it, and comes back at once with the network."""
    pod, _ = await start()
    async with running_network(pod.port) as network:
        page = await visit(network)
        await expect_state(page, "live")
        await page.context.set_offline(True)
        await expect_state(page, "offline")
        await game.score("ann", 1)
        await page.context.set_offline(False)
        await expect_score(page, "ann", 1)
        await expect_state(page, "live")


async def test_a_connection_that_died_unnoticed_is_replaced(start: Start, game: Game, visit: Visit) -> None:
    """No message for two heartbeats is enough."""
    pod, _ = await start(ws_heartbeat_seconds=1)
    async with running_network(pod.port) as network:
        page = await visit(network)
        await expect_state(page, "live")
        network.stall()
        await game.score("ann", 1)
        await expect(state(page)).not_to_have_attribute("data-state", "live", timeout=RECOVERY_MS)
        network.heal()
        await expect_score(page, "ann", 1)
        await expect_state(page, "live")


async def test_a_killed_pod_is_left_for_another(
    service_env: dict[str, str], start: Start, game: Game, issuer: Issuer, visit: Visit, tmp_path: Path
) -> None:
    """The page goes on with what the other pod has."""
    env = {
        **service_env,
        **environment_of(JwtSettings(jwks=issuer.jwks)),
        **environment_of(RulesSettings(boards=BOARDS, tiers=TIERS)),
    }
    other, _ = await start()
    async with (
        run_service("podium.scoreboard", env, tmp_path) as first,
        running_network(first.port, other.port) as network,
    ):
        page = await visit(network)
        await expect_state(page, "live")
        await game.score("ann", 1)
        await expect_score(page, "ann", 1)
        first.kill()
        await game.score("ann", 1)
        await expect_score(page, "ann", 2)
        await expect_state(page, "live")


@contextlib.asynccontextmanager
async def asleep(browser: Browser) -> AsyncIterator[None]:
    """Let all tabs sleep inside the block, at least for as long as the page takes for a sleep."""
    session = await browser.new_browser_cdp_session()
    found = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
    tabs = [process["id"] for process in found if process["type"] == "renderer"]
    for tab in tabs:
        os.kill(tab, signal.SIGSTOP)
    try:
        yield
        await asyncio.sleep(SLEEP_SECONDS)
    finally:
        for tab in tabs:
            os.kill(tab, signal.SIGCONT)


async def test_a_tab_that_slept_shows_the_newest(start: Start, game: Game, browser: Browser, visit: Visit) -> None:
    """On waking it makes sure of the server; it does not wait for two heartbeats of 25 s to pass."""
    pod, _ = await start()
    async with running_network(pod.port) as lives, running_network(pod.port) as dies:
        pages = [await visit(network) for network in (lives, dies)]
        for page in pages:
            await expect_state(page, "live")
        async with asleep(browser):
            dies.stall()
            for _ in range(5):
                await game.score("ann", 1)
            dies.heal()
        for page in pages:
            await expect_score(page, "ann", 5, within_ms=WAKE_MS)
            await expect_state(page, "live")


async def test_a_page_that_is_looked_at_again_makes_sure(start: Start, game: Game, visit: Visit) -> None:
    """Whatever the browser calls it: a connection that died meanwhile is found and replaced."""
    pod, _ = await start()
    async with running_network(pod.port) as network:
        events = ("document, visibilitychange", "document, resume", "window, online")
        pages = [await visit(network) for _ in events]
        for page in pages:
            await expect_state(page, "live")
        network.stall()
        await game.score("ann", 1)
        network.heal()
        for page, event in zip(pages, events, strict=True):
            target, name = event.split(", ")
            await page.evaluate(f"{target}.dispatchEvent(new Event('{name}'))")
        for page in pages:
            await expect_score(page, "ann", 1, within_ms=WAKE_MS)


def stop_feed(app: FastAPI) -> None:
    """Let a pod keep what it has for ever."""
    for task in app.state.runtime.tasks:
        if task.get_name() in {"read", "nats"}:
            task.cancel()


async def test_a_pod_that_is_behind_takes_nothing_back(start: Start, game: Game, visit: Visit) -> None:
    """The page keeps the newer snapshot that another pod gave it."""
    (behind, app), (pod, _) = await start(), await start()
    await game.score("ann", 1)

    async def both_have_it() -> bool:
        return bool(app.state.runtime.tops.get("default").rankings)

    await until(both_have_it, "the pod that will be behind has the first score")
    stop_feed(app)
    async with running_network(pod.port) as network:
        page = await visit(network)
        await game.score("ann", 1)
        await expect_score(page, "ann", 2)
        network.ports = [behind.port]
        network.end()

        async def watches() -> bool:
            return len(app.state.runtime.hub) == 1

        await until(watches, "the page watches the pod that is behind")
        await expect_state(page, "live")
        await expect_score(page, "ann", 2)


async def test_a_network_without_websockets_is_no_obstacle(start: Start, game: Game, visit: Visit) -> None:
    """Events of a stream instead, or plain GET, most of it answered by 304; and back as soon as it can be had."""
    pod, _ = await start()
    async with running_network(pod.port) as narrow, running_network(pod.port) as narrower:
        narrow.blocked = (b"Upgrade: websocket",)
        narrower.blocked = (*narrow.blocked, b"/api/v1/scoreboard/stream")
        pages = {"1": await visit(narrow), "2": await visit(narrower)}
        for way, page in pages.items():
            await expect(state(page)).to_have_attribute("data-way", way, timeout=RECOVERY_MS)
            await expect_state(page, "live")
        narrower.heads.clear()  # from now on only what the page asks for again and again
        await game.score("ann", 1)
        for page in pages.values():
            await expect_score(page, "ann", 1)

        async def revalidated() -> bool:
            return any(head.startswith(b"HTTP/1.1 304") for head in narrower.heads)

        await until(revalidated, "the browser revalidates what it has")
        narrow.blocked = narrower.blocked = ()
        for page in pages.values():
            await page.evaluate("dispatchEvent(new Event('online'))")
            await expect(state(page)).to_have_attribute("data-way", "0", timeout=RECOVERY_MS)
        await game.score("ann", 1)
        for page in pages.values():
            await expect_score(page, "ann", 2)


async def test_tries_are_spread(start: Start, visit: Visit) -> None:
    """Exponential with full jitter up to 15 s; and never before the time that a closing server asked for."""
    pod, _ = await start()
    async with running_network(pod.port) as network:
        page = await visit(network)
        await expect_state(page, "live")
        delays = await page.evaluate(
            """async () => {
              const { retryDelay } = await import("/assets/connection.js");
              const edges = (attempt, asked) => [0, 1].map((share) => retryDelay(attempt, asked, () => share));
              return [edges(0), edges(3), edges(30), edges(3, 700)];
            }"""
        )
    assert delays == [[0, 500], [0, 4000], [0, 15000], [700, 1050]]
