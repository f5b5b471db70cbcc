from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from fastapi_logto import auth
from fastapi_logto.testing import LocalIssuer, assert_protected, bearer
from main import DOCUMENTS, app

client = TestClient(app)


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer().connect(auth) as issuer:
        yield issuer


@pytest.fixture(autouse=True)
def documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOCUMENTS, "acme", {"plan": "Plan of Acme"})
    monkeypatch.setitem(DOCUMENTS, "globex", {"budget": "Budget of Globex"})


def member_of(issuer: LocalIssuer, organization_id: str) -> dict[str, str]:
    return bearer(issuer.access_token(organization_id=organization_id, scopes=["read:document"]))


def admin_of(issuer: LocalIssuer, organization_id: str) -> dict[str, str]:
    scopes = ["read:document", "manage:document"]
    return bearer(issuer.access_token(organization_id=organization_id, scopes=scopes))


def test_every_route_requires_a_token() -> None:
    assert_protected(app)


def test_a_member_reads_the_documents_of_the_organization(issuer: LocalIssuer) -> None:
    response = client.get("/organizations/acme/documents", headers=member_of(issuer, "acme"))
    assert response.json() == {"plan": "Plan of Acme"}


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", "/budget"), ("DELETE", "/budget")])
def test_an_admin_of_one_organization_is_rejected_in_another(issuer: LocalIssuer, method: str, path: str) -> None:
    response = client.request(
        method, f"/organizations/globex/documents{path}", headers=admin_of(issuer, "acme"), json="Another text"
    )
    assert response.status_code == 403
    assert response.json()["detail"]["code"] == "organization_mismatch"
    assert DOCUMENTS["globex"] == {"budget": "Budget of Globex"}


def test_a_token_without_an_organization_is_rejected(issuer: LocalIssuer) -> None:
    headers = bearer(issuer.access_token(scopes=["read:document"]))
    response = client.get("/organizations/acme/documents", headers=headers)
    assert response.status_code == 403
    assert response.json()["detail"]["code"] == "organization_required"


def test_only_an_admin_changes_documents(issuer: LocalIssuer) -> None:
    url = "/organizations/acme/documents/plan"
    assert client.put(url, json="New plan", headers=member_of(issuer, "acme")).status_code == 403
    assert client.delete(url, headers=member_of(issuer, "acme")).status_code == 403
    assert DOCUMENTS["acme"] == {"plan": "Plan of Acme"}

    assert client.put(url, json="New plan", headers=admin_of(issuer, "acme")).status_code == 204
    assert DOCUMENTS["acme"] == {"plan": "New plan"}
    assert client.delete(url, headers=admin_of(issuer, "acme")).status_code == 204
    assert DOCUMENTS["acme"] == {}


def test_a_document_of_another_organization_is_not_found(issuer: LocalIssuer) -> None:
    response = client.delete("/organizations/acme/documents/budget", headers=admin_of(issuer, "acme"))
    assert response.status_code == 404
    assert DOCUMENTS["globex"] == {"budget": "Budget of Globex"}
