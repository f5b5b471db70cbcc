import asyncio
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from fastapi_logto.testing import LocalIssuer, assert_protected, bearer
from main import JsonFormatter, app, auth, revocations

DASHBOARD = json.loads((Path(__file__).parent / "dashboard.json").read_text())


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture
def port() -> int:
    """A free port for the metrics."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found: int = listener.getsockname()[1]
    return found


@pytest.fixture
def client(issuer: LocalIssuer, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("METRICS_PORT", str(port))
    with issuer.connect(auth), TestClient(app) as client:
        yield client


def scrape(port: int) -> dict[str, float]:
    """The value of each sample, by its name with labels."""
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def count(samples: dict[str, float], name: str, *labels: str) -> float:
    """The sum of the samples with this name and these labels."""
    return sum(
        value
        for sample, value in samples.items()
        if sample.partition("{")[0] == name and all(label in sample for label in labels)
    )


def test_every_route_requires_a_token() -> None:
    assert_protected(app)


def test_the_metrics_count_what_happened(client: TestClient, issuer: LocalIssuer, port: int) -> None:
    before = scrape(port)
    headers = bearer(issuer.access_token(scopes=["read:user"]))

    assert [client.get("/user/info", headers=headers).status_code for _ in range(3)] == [200] * 3
    assert client.get("/user/info").status_code == 401

    after = scrape(port)

    def grown(name: str, *labels: str) -> float:
        return count(after, f"fastapi_logto_{name}", *labels) - count(before, f"fastapi_logto_{name}", *labels)

    assert grown("verifications_total", 'fastapi_logto_source="signature"') == 1
    assert grown("verifications_total", 'fastapi_logto_source="cache"') == 2
    assert grown("refusals_total", 'reason="header_missing"', 'http_response_status_code="401"') == 1
    assert grown("verification_duration_seconds_count") == 1


def test_every_metric_of_the_dashboard_is_collected(client: TestClient, issuer: LocalIssuer, port: int) -> None:
    client.get("/user/info", headers=bearer(issuer.access_token(scopes=["read:user"])))
    client.get("/user/info", headers=bearer(issuer.bad_token("expired")))
    asyncio.run(revocations.revoke(user_id="alice"))

    collected = {sample.partition("{")[0] for sample in scrape(port)}
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    used = {name for query in queries for name in re.findall(r"\bfastapi_logto_\w+(?=\{|\[)", query)}
    assert len(queries) > 8
    assert len(used) == 6
    assert used <= collected


def test_the_labels_of_the_dashboard_are_collected(client: TestClient, issuer: LocalIssuer, port: int) -> None:
    client.get("/user/info", headers=bearer(issuer.access_token(scopes=["read:user"])))
    client.get("/user/info")

    collected = {label for sample in scrape(port) for label in re.findall(r'[{,](\w+)="', sample)}
    queries = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    used = set(re.findall(r"(\w+)=~?\"", queries)) | {
        label for labels in re.findall(r"by \(([^)]+)\)", queries) for label in labels.split(", ")
    }
    assert used - {"job", "instance"} <= collected


def test_a_rejected_request_is_logged_as_json(
    client: TestClient, issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/user/info", headers=bearer(issuer.bad_token("wrong_audience")))

    line = json.loads(JsonFormatter().format(caplog.records[-1]))
    assert line.items() >= {"level": "INFO", "logto_reason": "audience", "logto_claim": "aud"}.items()
