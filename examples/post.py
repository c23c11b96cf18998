"""Posts one signed score update: ``make -s info | PYTHONPATH=services .venv/bin/python examples/post.py ann win``.

The description of the running instance comes on standard input, so the client secret shows in no process list.
"""

import argparse
import asyncio
import json
import sys

import httpx

from podium.client import PodiumError, open_session


async def post(info: dict[str, str], user: str, action: str, data: object) -> dict[str, object]:
    """Open a session for the user and report the action. Raises PodiumError if it is refused."""
    async with httpx.AsyncClient(base_url=info["url"], timeout=10) as http:
        session = await open_session(http, info["clientId"], info["clientSecret"], subject=user, username=user.title())
        return await session.update(action, data)


def main() -> int:
    """Print the answer; 1 if the update was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("user", nargs="?", default="ann")
    parser.add_argument("action", nargs="?", default="win")
    parser.add_argument("--data", type=json.loads, default={}, help="additionalData as JSON")
    options = parser.parse_args()
    try:
        answer = asyncio.run(post(json.load(sys.stdin), options.user, options.action, options.data))
    except PodiumError as refusal:
        print(refusal, file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
