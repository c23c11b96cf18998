"""Compares what the services answer with what their published OpenAPI document says."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import jsonschema_rs

Document = dict[str, Any]


class Conformance:
    """Checks answers of documented operations: the status, the media type and the body must be documented."""

    def __init__(self, openapi: Document) -> None:
        self._openapi = openapi
        self._paths = [(_pattern(path), item) for path, item in openapi["paths"].items()]
        self._validators: dict[int, jsonschema_rs.Validator] = {}

    async def check(self, response: httpx.Response) -> None:
        """An httpx hook. Raises AssertionError for an answer that the document does not describe."""
        request = response.request
        operation = self._operation(request.method.lower(), request.url.path)
        if operation is None:
            return
        what = f"{request.method} {request.url.path}: {response.status_code}"
        described = operation["responses"].get(str(response.status_code))
        assert described is not None, f"{what} is not documented"
        described = self._resolved(described)
        media_type = response.headers.get("content-type", "").split(";")[0]
        contents: Mapping[str, Document] = described.get("content", {})
        if media_type == "text/event-stream" or response.status_code == httpx.codes.NOT_MODIFIED:
            return
        await response.aread()
        if not response.content and not contents:
            return
        assert media_type in contents, f"{what} has the media type {media_type!r}, documented is {sorted(contents)}"
        schema = contents[media_type].get("schema")
        if schema is not None and media_type.endswith("json"):
            faults = [f"{fault.instance_path}: {fault.message}" for fault in self._faults(schema, response.json())]
            assert not faults, f"{what} does not conform: {faults}"

    def _operation(self, method: str, path: str) -> Document | None:
        # A path without a variable part goes before a template that would match it, too.
        matching = [(pattern, item) for pattern, item in self._paths if pattern.fullmatch(path)]
        items = [item for pattern, item in sorted(matching, key=lambda pair: pair[0].groups)]
        operation: Document | None = items[0].get(method) if items else None
        return operation

    def _faults(self, schema: Document, body: Any) -> Iterator[jsonschema_rs.ValidationError]:
        validator = self._validators.get(id(schema))
        if validator is None:
            whole = {**schema, "components": self._openapi.get("components", {})}
            validator = self._validators[id(schema)] = jsonschema_rs.Draft202012Validator(whole)
        return validator.iter_errors(body)

    def _resolved(self, item: Document) -> Document:
        reference = item.get("$ref")
        if reference is None:
            return item
        found: Any = self._openapi
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        resolved: Document = found
        return resolved


def _pattern(path: str) -> re.Pattern[str]:
    """``/users/{userId}`` as a regular expression with a group for each parameter."""
    return re.compile(re.sub(r"\\\{[^}]*\\\}", "([^/]+)", re.escape(path)))
