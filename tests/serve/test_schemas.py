"""What the schema allows is answered as the schema says: schemathesis draws the requests."""

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
OPERATIONS = (
    "GET /health",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "GET /v1/models/{name}/directions/{file}",
    "POST /v1/sample",
    "POST /v1/generate",
    "POST /v1/embed",
    "POST /v1/invert",
    "POST /v1/invert/upload",
    "POST /v1/edit",
    "POST /v1/sweep",
    "POST /v1/nearest",
    "POST /v1/directions",
)


@pytest.fixture(scope="module")
def operations(server: Any) -> dict[str, Any]:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    return {
        get_all_operation.ok().label: get_all_operation.ok()
        for get_all_operation in schema.get_all_operations()
    }


def test_every_path_of_the_schema_is_drawn(operations: dict[str, Any]) -> None:
    assert set(operations) == set(OPERATIONS)


@pytest.mark.parametrize("label", OPERATIONS)
def test_requests_that_the_schema_allows(
    operations: dict[str, Any], server: Any, label: str
) -> None:
    @settings(
        max_examples=15,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operations[label].as_strategy())
    def ask(case: Any) -> None:
        # A model that is not there answers alike to everything.
        if isinstance(case.body, dict):
            case.body.pop("model", None)
        case.call_and_validate(checks=CHECKS)

    ask()
    assert httpx.get(f"{server.url}/health").json()["waiting"] == 0
