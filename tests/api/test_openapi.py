"""Closed states are enums in OpenAPI, and the docs have every problem."""

from pathlib import Path
from typing import Any

import pytest

from akosha_api.app import create_app
from akosha_api.problems import TYPE_PREFIX, ProblemName
from akosha_api.settings import ApiSettings
from akosha_assets.lake.reasons import REASONS
from akosha_assets.lake.serving.states import RankingStatus, SearchMode, TierStatus
from akosha_assets.lake.settings import LakeSettings
from akosha_assets.lake.tiers import TIERS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("akosha")
    schema: dict[str, Any] = create_app(LakeSettings(home=home), ApiSettings()).openapi()
    return schema


def values_of(schema: dict[str, Any], model: str, field: str) -> list[str]:
    """The values that a field of a model may have."""
    schemas = schema["components"]["schemas"]
    described = schemas[model]["properties"][field]
    for option in (described, *described.get("allOf", ()), *described.get("anyOf", ())):
        variant = schemas[option["$ref"].rpartition("/")[2]] if "$ref" in option else option
        if "enum" in variant:
            values: list[str] = variant["enum"]
            return values
    raise AssertionError(f"{model}.{field} is no enum: {described}")


@pytest.mark.parametrize(
    ("model", "field", "values"),
    [
        ("SearchRequest", "mode", list(SearchMode)),
        ("SearchResponse", "mode", list(SearchMode)),
        ("TierState", "state", list(TierStatus)),
        ("StageState", "state", list(RankingStatus)),
        ("Result", "tier", list(TIERS)),
        ("UploadModel", "state", ["arriving", "waiting", "claimed", "ingested", "quarantined"]),
        ("Alert", "state", ["firing", "resolved"]),
        ("Alert", "severity", ["warning", "critical"]),
        ("BacklogAnswer", "size", ["ok", "warn", "error"]),
        ("BacklogAnswer", "age", ["ok", "warn", "error"]),
        ("TriggerAnswer", "by", ["dagster", "process"]),
        ("Problem", "type", [f"{TYPE_PREFIX}{name}" for name in ProblemName]),
    ],
)
def test_a_closed_state_is_an_enum(schema: dict[str, Any], model: str, field: str, values: list[str]) -> None:
    assert sorted(values_of(schema, model, field)) == sorted(values)


def test_filters_of_uploads_are_enums(schema: dict[str, Any]) -> None:
    parameters = {each["name"]: each["schema"] for each in schema["paths"]["/api/v1/uploads"]["get"]["parameters"]}
    assert parameters["reason"]["enum"] == list(REASONS)
    assert "incomplete" in parameters["state"]["enum"]


def test_every_problem_and_every_state_is_documented() -> None:
    text = (ROOT / "docs/api.md").read_text()
    names = [*ProblemName, *TierStatus, *RankingStatus, *SearchMode]
    assert [name for name in names if f"`{name}`" not in text] == []
