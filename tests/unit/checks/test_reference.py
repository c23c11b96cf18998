"""The field tables of the documentation are made from the CRD."""

import pytest

from checks.reference import BEGIN, END, Field, fields, filled, table

SCHEMA = {
    "properties": {
        "paused": {"type": "boolean", "default": False, "description": "Stops changes."},
        "boards": {
            "type": "array",
            "default": [],
            "description": "The rankings.",
            "items": {
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "description": "Its name."},
                    "top": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10, "description": "Places."},
                },
            },
        },
        "mode": {"type": "string", "enum": ["Log", "Enforce"], "default": "Log", "description": "What to do."},
    }
}


def test_every_field_has_a_row() -> None:
    """Nested fields follow their parent, with type and default."""
    assert list(fields(SCHEMA)) == [
        Field("paused", "boolean", "`false`", "Stops changes."),
        Field("boards[]", "list", "none", "The rankings."),
        Field("boards[].name", "string", "required", "Its name."),
        Field("boards[].top", "integer 1…1000", "`10`", "Places."),
        Field("mode", "`Log` `Enforce`", "`Log`", "What to do."),
    ]


def test_the_table_takes_the_place_between_the_markers() -> None:
    """The words around it stay."""
    page = filled(f"before\n{BEGIN}old\n{END}after\n", table([Field("a", "b", "c", "d")]))
    assert page.startswith("before\n")
    assert page.endswith("after\n")
    assert "| `a` | b | c | d |" in page
    assert "old" not in page


def test_a_page_without_markers_is_refused() -> None:
    """Nothing is overwritten by mistake."""
    with pytest.raises(ValueError, match="markers"):
        filled("no markers", "")
