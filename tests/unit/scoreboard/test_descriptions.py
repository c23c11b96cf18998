"""The published descriptions say what the server does."""

import json
from typing import Any, NamedTuple, cast

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from podium.common.settings import JwtSettings
from podium.common.tokens import make_verifier
from podium.scoreboard.app import create_app
from podium.scoreboard.asyncapi import describe
from podium.scoreboard.connection import Connection
from podium.scoreboard.domain import Ranking, Snapshot
from podium.scoreboard.hub import Hub
from podium.scoreboard.keeper import Keeper
from podium.scoreboard.leases import Limiter
from podium.scoreboard.representations import Published
from podium.scoreboard.settings import WatchSettings
from podium.scoreboard.websocket import Gateway, WebSocketEndpoint
from podium_dev import npm, versions
from tests.support.spoken import Spoken
from tests.unit.scoreboard.test_connection import Wire

DOCUMENT = describe(WatchSettings())
SPOKEN = Spoken(DOCUMENT)
SNAPSHOT = Snapshot("default", 1, 2, (Ranking("u1", "Ann", 3, 1),), "2026-01-01T00:00:00.000000Z", ("00-…",))


def resolve(reference: str) -> Any:
    """What a reference of the document names."""
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return resolve(found["$ref"]) if "$ref" in found else found


def test_asyncapi_is_valid() -> None:
    """By the schema that the AsyncAPI initiative publishes for its documents."""
    specification = json.loads(npm.ensure_file(versions.ASYNCAPI_SPECS, "schemas/3.0.0.json").read_text())
    validator = jsonschema_rs.validator_for(specification)
    validator.validate(DOCUMENT)
    assert not validator.is_valid({**DOCUMENT, "operations": {"watch": {"action": "sing"}}})


def test_asyncapi_is_whole() -> None:
    """Every reference leads somewhere, and each message of the WebSocket is said by one side."""
    operations = DOCUMENT["operations"]
    said = {name: [resolve(one["$ref"])["name"] for one in each["messages"]] for name, each in operations.items()}
    assert sorted(said["watch"] + said["control"]) == sorted(DOCUMENT["components"]["messages"])
    assert said["follow"] == ["snapshot"]
    assert all(resolve(server["$ref"]) for channel in DOCUMENT["channels"].values() for server in channel["servers"])


@pytest.mark.parametrize("kind", DOCUMENT["components"]["messages"])
def test_examples_fit(kind: str) -> None:
    """What the document shows is what it says."""
    for example in DOCUMENT["components"]["messages"][kind]["examples"]:
        assert SPOKEN.kind_of(example["payload"], SPOKEN.from_server | SPOKEN.from_client) == kind


def test_a_snapshot_is_as_described() -> None:
    """What goes out has the described fields and no other."""
    data = Published(SNAPSHOT, 1).event.split(b"data: ")[1].strip()
    assert SPOKEN.check(data.decode())["type"] == "snapshot"


@pytest.fixture
def endpoint() -> WebSocketEndpoint:
    """A server without stores, for messages alone."""
    keeper = Keeper(Hub(tick=0))
    keeper.hub._published["default"] = Published(SNAPSHOT, 1)
    gateway = Gateway(keeper, make_verifier(JwtSettings(), lambda _: False), cast(Limiter, None), 1)
    return WebSocketEndpoint(gateway, frozenset({"default"}), "default", WatchSettings().ws_max_message_bytes)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5) | st.sampled_from(["default", "weekly"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "boards"]), inner, max_size=2),
    max_leaves=6,
)
MESSAGES = ANYTHING | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["subscribe", "unsubscribe", "ping", "auth", "snapshot", "pong"]) | ANYTHING,
        "boards": st.lists(st.sampled_from(["default", "weekly"]), max_size=3) | ANYTHING,
        "token": st.text(max_size=9) | ANYTHING,
        "more": ANYTHING,
    },
)


class Asked(NamedTuple):
    """What a message gets: the codes of errors, and the types of all answers."""

    codes: set[str]
    kinds: list[str]


def asked(endpoint: WebSocketEndpoint, message: Any) -> Asked:
    """Send one message to a server, and check each answer."""
    wire = Wire()
    connection = Connection(endpoint, wire, set())
    endpoint.hub.watchers.add(connection)
    endpoint.take(connection, json.dumps(message))
    endpoint.hub.watchers.discard(connection)
    client = ClientProtocol(parse_uri("ws://podium.test/"), state=OPEN)
    client.receive_data(bytes(wire.written))
    answers = [SPOKEN.check(bytes(cast(Frame, frame).data).decode()) for frame in client.events_received()]
    codes = {answer["code"] for answer in answers if answer["type"] == "error"}
    return Asked(codes, [answer["type"] for answer in answers])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=MESSAGES)
def test_the_server_takes_what_the_document_allows_and_nothing_else(endpoint: WebSocketEndpoint, message: Any) -> None:
    """Whatever message: it is malformed for the server exactly if it fits no schema; each answer fits one."""
    kind = SPOKEN.kind_of(message, SPOKEN.from_client)
    codes, kinds = asked(endpoint, message)
    if kind is None:
        assert codes <= {"malformed-message", "unknown-type"}
        assert kinds == ["error"]
        return
    assert not codes & {"malformed-message", "unknown-type"}
    if kind == "ping":
        assert kinds == ["pong"]
    if kind == "subscribe" and set(message["boards"]) == {"default"}:
        assert kinds == ["snapshot"]


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
