"""The issue templates: the host shows none of them that it cannot read, and says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

FORMS = sorted((Path(__file__).parents[2] / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.mark.parametrize("path", [path for path in FORMS if path.stem != "config"], ids=lambda path: path.stem)
def test_a_template_is_a_form(path: Path) -> None:
    """With a name, a description, fields that have an id and a label each, and one that must be filled in."""
    form: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
    for field in fields:
        assert all(isinstance(each, str) for each in field["attributes"].get("options", []))


def test_there_are_forms_for_bugs_and_questions() -> None:
    """Both, beside the host's own configuration."""
    assert [path.stem for path in FORMS] == ["bug", "config", "question"]
