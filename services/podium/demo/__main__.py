"""``make -s info | python -m podium.demo``: some dozens of players who play until Ctrl-C.

The connection's details come on standard input, so the client secret shows in no process list.
"""

import argparse
import asyncio
import contextlib
import json
import random
import sys
from collections import Counter

import httpx

from podium.client import PodiumError, Session, open_session

NAMES = (
    "Ada Alan Anita Barbara Bjarne Donald Dorothy Edsger Ellen Frances Grace Guido Hedy Ivan Jean Joan John Karen "
    "Katherine Ken Leslie Linus Lynn Margaret Mary Niklaus Noor Peter Radia Robin Sophie Stephanie Tim Tony Vint Zora"
).split()
ACTIONS_PER_MINUTE = 8
"""Mean pace of one player; the sample's limit is 10 a minute."""
COMBO_SHARE, BONUS_SHARE = 0.1, 0.3


async def _play(http: httpx.AsyncClient, client: tuple[str, str], number: int, seen: Counter[str]) -> None:
    """One player: opens a session and earns points at a pace of its own, patient with refusals and outages."""
    name = NAMES[number % len(NAMES)]
    user = f"demo-{name.lower()}-{number // len(NAMES)}"
    pace = random.uniform(0.4, 1.2) * ACTIONS_PER_MINUTE / 60
    session: Session | None = None
    await asyncio.sleep(random.uniform(0, 3))
    while True:
        try:
            if session is None:
                session = await open_session(http, *client, subject=user, username=name)
            draw = random.random()
            if draw < COMBO_SHARE:
                await session.update("combo")
            elif draw < COMBO_SHARE + BONUS_SHARE:
                await session.update("bonus", {"level": random.randint(1, 9)})
            else:
                await session.update("win")
            seen["accepted"] += 1
        except PodiumError as refusal:
            seen[refusal.slug] += 1
            if refusal.status in {400, 401}:
                session = None
            await asyncio.sleep(refusal.retry_after or 1)
        except httpx.TransportError:
            seen["no answer"] += 1
            await asyncio.sleep(1)
        await asyncio.sleep(random.expovariate(pace))


async def _report(seen: Counter[str], players: int) -> None:
    while True:
        await asyncio.sleep(5)
        counts = ", ".join(f"{count} {what}" for what, count in seen.most_common())
        print(f"{players} players: {counts or 'warming up'}", flush=True)


async def _run(info: dict[str, str], players: int, seconds: float | None) -> None:
    seen: Counter[str] = Counter()
    client = (info["clientId"], info["clientSecret"])
    limits = httpx.Limits(max_connections=players)
    async with (
        httpx.AsyncClient(base_url=info["url"], timeout=10, limits=limits) as http,
        asyncio.timeout(seconds),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(_report(seen, players))
        for number in range(players):
            group.create_task(_play(http, client, number, seen))


def main() -> None:
    """Play until Ctrl-C or for ``--seconds``."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--players", type=int, default=36)
    parser.add_argument("--seconds", type=float, default=None, help="how long; without it until Ctrl-C")
    options = parser.parse_args()
    info = json.load(sys.stdin)
    print(f"{options.players} players on {info['url']}; watch them there. Ctrl-C ends the game.", flush=True)
    with contextlib.suppress(KeyboardInterrupt, TimeoutError):
        asyncio.run(_run(info, options.players, options.seconds))


if __name__ == "__main__":
    main()
