"""Whether the JSON Schemas of actions can be used: the API server keeps them as they are and cannot tell. Pure."""

from __future__ import annotations

import jsonschema_rs

from podium_operator.spec import Action, ScoreboardSpec

MAX_REASON = 200
"""Characters that are kept of what is wrong with one schema."""


def problem(spec: ScoreboardSpec) -> str:
    """A sentence for each schema that the scores service could not use; empty if there is none."""
    return "; ".join(filter(None, (_problem(action) for action in spec.actions)))


def _problem(action: Action) -> str:
    if action.data_schema is None:
        return ""
    try:
        # The very call of the scores service, which would not start; offline, so that a $ref fetches nothing.
        jsonschema_rs.validator_for(action.data_schema, offline=True, validate_formats=True)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        where, reason = f"actions[{action.type}].schema", str(error)
        if isinstance(error, jsonschema_rs.ValidationError):
            where, reason = ".".join([where, *(str(part) for part in error.instance_path)]), error.message
        return f"{where} is no usable JSON Schema: {reason[:MAX_REASON]}; correct or remove it"
    return ""
