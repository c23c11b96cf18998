"""What an AsyncAPI document lets both sides say, as a check of what was said."""

import json
from collections.abc import Set
from typing import Any

import jsonschema_rs

Message = dict[str, Any]


class Spoken:
    """The messages of the channel ``scoreboard`` and how it may end, by the document."""

    def __init__(self, document: Message) -> None:
        messages = document["components"]["messages"]
        # The default of AsyncAPI 3 is a superset of JSON Schema draft 7.
        self._validators = {
            kind: jsonschema_rs.Draft7Validator(message["payload"], validate_formats=True)
            for kind, message in messages.items()
        }
        self._fields = {kind: set(message["payload"]["properties"]) for kind, message in messages.items()}
        operations = document["operations"]
        self.from_server = _kinds(operations["watch"])
        self.from_client = _kinds(operations["control"])
        channel = document["channels"]["scoreboard"]
        self.refusals = {int(status) for status in channel["x-refusals"]}
        self.close_codes = {int(code) for code in channel["x-closeCodes"]}
        self._reasons = {int(code): described["reason"] for code, described in channel["x-closeCodes"].items()}

    def kind_of(self, message: Any, kinds: Set[str]) -> str | None:
        """Which of some messages this is, None for none of them."""
        fitting = [kind for kind in sorted(kinds) if self._validators[kind].is_valid(message)]
        assert len(fitting) <= 1, f"{message} fits {fitting}"
        return fitting[0] if fitting else None

    def check(self, text: str) -> Message:
        """A message of the server, which is one that the document has, with its fields and no others."""
        message: Message = json.loads(text)
        kind = message["type"]
        assert kind in self.from_server, f"the server says {kind}"
        self._validators[kind].validate(message)
        assert set(message) == self._fields[kind]
        return message

    def check_close(self, code: int | None, reason: str | None) -> int:
        """A close code that the document has, with a reason as it says."""
        assert code in self.close_codes, f"closed with {code} {reason}"
        schema = self._reasons[code]
        if "contentSchema" in schema:
            jsonschema_rs.validate(schema["contentSchema"], json.loads(reason or ""))
        return code


def _kinds(operation: Message) -> frozenset[str]:
    return frozenset(one["$ref"].rpartition("/")[2] for one in operation["messages"])
