"""The published descriptions say what the server does."""

from typing import Any

import jsonschema_rs
import msgspec
import pytest
from openapi_spec_validator import validate

from podium.scoreboard.app import create_app
from podium.scoreboard.asyncapi import describe
from podium.scoreboard.domain import Ranking, Snapshot
from podium.scoreboard.representations import Published
from podium.scoreboard.settings import WatchSettings

DOCUMENT = describe(WatchSettings())
SNAPSHOT = Snapshot("default", 1, 2, (Ranking("u1", "Ann", 3, 1),), "2026-01-01T00:00:00.000000Z", ("00-…",))


def schema(kind: str) -> dict[str, Any]:
    """Payload schema of a message."""
    payload: dict[str, Any] = DOCUMENT["components"]["messages"][kind]["payload"]
    return payload


def resolve(reference: str) -> Any:
    """What a reference of the document names."""
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return resolve(found["$ref"]) if "$ref" in found else found


def test_asyncapi_is_whole() -> None:
    """Every reference leads somewhere, and each message is said by one side."""
    assert DOCUMENT["asyncapi"] == "3.0.0"
    said = [
        resolve(one["$ref"])["name"] for operation in DOCUMENT["operations"].values() for one in operation["messages"]
    ]
    assert sorted(said) == sorted(DOCUMENT["components"]["messages"])


def test_a_snapshot_is_as_described() -> None:
    """What goes out has the described fields and no other."""
    data = Published(SNAPSHOT, 1).event.split(b"data: ")[1].strip()
    message = msgspec.json.decode(data)
    jsonschema_rs.validate(schema("snapshot"), message)
    assert set(message) == set(schema("snapshot")["properties"])


@pytest.mark.parametrize(
    "bad", [{"type": "subscribe"}, {"type": "subscribe", "boards": []}, {"type": "ping2"}], ids=str
)
def test_bad_messages_do_not_fit(bad: dict[str, object]) -> None:
    """The schemas are as strict as the server."""
    kinds = ("subscribe", "unsubscribe", "ping", "auth")
    assert not any(jsonschema_rs.is_valid(schema(kind), bad) for kind in kinds)


def test_openapi_is_valid_and_names_every_answer() -> None:
    """OpenAPI 3.1, with the problems of the contract for each operation."""
    document = create_app().openapi()
    validate(document)
    assert document["openapi"].startswith("3.1")
    answers = {path: set(item["get"]["responses"]) for path, item in document["paths"].items()}
    assert answers == {
        "/api/v1/scoreboard": {"200", "304", "400", "429", "503"},
        "/api/v1/scoreboard/users/{userId}": {"200", "400", "404", "429", "503"},
        "/api/v1/scoreboard/stream": {"200", "400", "401", "429", "503"},
        "/api/v1/scoreboard/seasons": {"200", "304", "400", "429", "503"},
        "/api/v1/scoreboard/seasons/{season}": {"200", "304", "400", "404", "429", "503"},
    }
