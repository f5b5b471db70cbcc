"""Events that were lost while an API was down are found in the delivery log, before its first request."""

from pathlib import Path

import pytest
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient

from fastapi_logto import LogtoAuth
from fastapi_logto.revocation import DeliveryLog, RedisStore, Revocations
from fastapi_logto.testing import Directory, LocalIssuer, Machine, Resource, User, bearer
from tests.integration.processes import find_free_port, run_module
from tests.integration.redis_server import RedisServer
from tests.tenants import API, serve

MANAGEMENT = "https://default.logto.app/api"


def build_issuer() -> LocalIssuer:
    directory = Directory(
        resources=[Resource(indicator=MANAGEMENT, scopes={"all": ""}), Resource(indicator=API)],
        users=[User(id=f"id-of-{name}", username=name, name=name) for name in ("alice", "bob")],
        machines=[Machine(client_id="follower", client_secret="follower-secret", scopes={MANAGEMENT: ["all"]})],
    )
    return LocalIssuer(directory=directory)


def build_app(issuer: LocalIssuer, revocations: Revocations) -> FastAPI:
    auth = LogtoAuth(endpoint=issuer.endpoint, audience=API, revocations=revocations)
    app = FastAPI(dependencies=[Depends(auth)])
    auth.install(app)

    @app.get("/")
    async def root() -> str:
        return "ok"

    return app


@pytest.mark.parametrize("has_lifespan", [True, False])
def test_a_user_who_was_suspended_while_the_api_was_down_is_refused_at_its_first_request(*, has_lifespan: bool) -> None:
    issuer = build_issuer()
    with serve(issuer):
        hook = issuer.add_hook(f"http://127.0.0.1:{find_free_port()}/webhooks/logto")
        tokens = {
            name: issuer.access_token(subject=f"id-of-{name}", client_id="web", scopes=(), audience=API)
            for name in ("alice", "bob")
        }
        # No server listens there, and Logto does not repeat the delivery.
        issuer.suspend("alice")
        assert issuer.deliveries[0].result == "Error"
        log = DeliveryLog(issuer.endpoint, client_id="follower", client_secret="follower-secret", hook_id=hook.id)
        client = TestClient(build_app(issuer, Revocations(log=log)))
        if has_lifespan:
            with client:
                refused, accepted = (client.get("/", headers=bearer(tokens[name])) for name in ("alice", "bob"))
        else:
            refused, accepted = (client.get("/", headers=bearer(tokens[name])) for name in ("alice", "bob"))

    assert (refused.status_code, refused.json()["detail"]["reason"]) == (401, "revoked")
    assert accepted.status_code == 200


def test_a_process_of_its_own_reads_the_log_for_an_api_without_credentials(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    issuer = build_issuer()
    with serve(issuer):
        hook = issuer.add_hook(f"http://127.0.0.1:{find_free_port()}/webhooks/logto")
        token = issuer.access_token(subject="id-of-alice", client_id="web", scopes=(), audience=API)
        issuer.suspend("alice")
        environment = {
            "LOGTO_ENDPOINT": issuer.endpoint,
            "LOGTO_AUDIENCE": API,
            "LOGTO_MANAGEMENT_CLIENT_ID": "follower",
            "LOGTO_MANAGEMENT_CLIENT_SECRET": "follower-secret",
            "LOGTO_WEBHOOK_ID": hook.id,
            "LOGTO_REDIS_URL": redis_server.url,
        }
        with run_module("fastapi_logto", "webhook", "follow", environment=environment, cwd=tmp_path) as process:
            process.wait_for_text("1 revocations of the source log are in effect")
            with TestClient(build_app(issuer, Revocations(RedisStore(redis_server.url)))) as client:
                refused = client.get("/", headers=bearer(token))
            code = process.interrupt()

    assert (refused.status_code, refused.json()["detail"]["reason"]) == (401, "revoked")
    assert code == 0
    assert "id-of-alice" not in process.output
    assert "Traceback" not in process.output
