"""Metrics, spans and log fields: they are recorded, and contain nothing of a token or a user."""

import asyncio
import inspect
import json
import logging
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from subprocess import run
from typing import Annotated, Any, get_args

import httpx
import pytest
from fastapi import Depends, FastAPI, WebSocket
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from fastapi_logto import LogtoAuth, TokenClaims, telemetry
from fastapi_logto.client import GrantError
from fastapi_logto.errors import RefusalError
from fastapi_logto.provider import telemetry as provider_telemetry
from fastapi_logto.provider.failures import ExchangeError, FailedLayer
from fastapi_logto.provider.transport import Request, Transport
from fastapi_logto.revocation import Revocations
from fastapi_logto.revocation.revocations import find_feeds
from fastapi_logto.testing import BAD_TOKENS, BadToken, LocalIssuer, ManualClock, bearer
from tests.captured import DISCOVERY_PATH, JWKS_PATH
from tests.docs import ROOT
from tests.unit import clients, test_introspection
from tests.unit.fakes import ENDPOINT, FakeProvider, finish_fetches, wait_until
from tests.unit.hook_log import NOW, FakeLog
from tests.unit.key_bench import TTL, at_once, build_bench
from tests.unit.recording import Point, Recording, start_recording
from tests.unit.test_impersonation import BOB, MANAGEMENT

SUBJECT = "subject-of-the-token"
ORGANIZATION = "organization-of-the-token"
LOGTO = {"server.address": "tenant.logto.app", "server.port": 443}


@pytest.fixture
def recording() -> Recording:
    return start_recording()


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer()


def build_client(auth: LogtoAuth) -> TestClient:
    app = FastAPI()
    auth.install(app)

    @app.get("/any")
    async def read(claims: Annotated[TokenClaims, Depends(auth)]) -> str:
        return claims.sub

    @app.get("/scoped", dependencies=[Depends(auth.require_scopes("read:user"))])
    async def read_scoped() -> None: ...

    @app.get("/verify")
    async def verify(token: str) -> None:
        await auth.verify(token)

    @app.websocket("/socket")
    async def talk(websocket: WebSocket, _claims: Annotated[TokenClaims, Depends(auth)]) -> None: ...

    return TestClient(app)


def refusal(code: str, reason: str, status: int, count: int = 1) -> Point:
    return Point(
        count,
        {"fastapi_logto.code": code, "fastapi_logto.reason": reason, "http.response.status_code": status},
    )


def counted(recorded: dict[str, list[Point]], name: str, attribute: str) -> dict[Any, float]:
    """Return the values of a metric by one of its attributes."""
    return {point.attributes.get(attribute): point.value for point in recorded.get(name, [])}


class TestVerifications:
    def test_a_new_token_is_verified_by_its_signature_and_then_from_the_cache(
        self, issuer: LocalIssuer, recording: Recording
    ) -> None:
        client, headers = build_client(issuer.auth()), bearer(issuer.access_token())

        for _ in range(4):
            assert client.get("/any", headers=headers).status_code == 200

        recorded = recording.read()
        assert recorded["fastapi_logto.verifications"] == [
            Point(3, {"fastapi_logto.source": "cache"}),
            Point(1, {"fastapi_logto.source": "signature"}),
        ]
        assert "fastapi_logto.refusals" not in recorded

    def test_the_time_of_a_new_token_is_recorded_and_that_of_a_cached_one_is_not(
        self, issuer: LocalIssuer, recording: Recording
    ) -> None:
        client, headers = build_client(issuer.auth()), bearer(issuer.access_token())

        for _ in range(2):
            client.get("/any", headers=headers)

        (point,) = recording.read()["fastapi_logto.verification.duration"]
        assert (point.value, point.attributes) == (1, {})
        assert 0 < point.total < 60
        assert [round(seconds * 1e6) for seconds in point.bounds] == [
            *(100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000),
            *(50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000),
        ]

    def test_several_schemes_in_one_process_share_the_counters(self, recording: Recording) -> None:
        for issuer in (LocalIssuer(), LocalIssuer(endpoint="http://127.0.0.1:3002")):
            build_client(issuer.auth()).get("/any", headers=bearer(issuer.access_token()))

        recorded = recording.read()
        assert counted(recorded, "fastapi_logto.verifications", "fastapi_logto.source") == {"signature": 2}
        assert [point.attributes["server.port"] for point in recorded["fastapi_logto.key_fetches"]] == [3001, 3002]

    def test_threads_lose_no_count(self, recording: Recording) -> None:
        def count() -> None:
            for _ in range(500):
                telemetry.count_verification("cache")

        with ThreadPoolExecutor(4) as pool:
            for counting in [pool.submit(count) for _ in range(4)]:
                counting.result()

        assert counted(recording.read(), "fastapi_logto.verifications", "fastapi_logto.source") == {"cache": 2000}


class TestRefusals:
    @pytest.mark.parametrize("kind", BAD_TOKENS)
    def test_an_invalid_token_is_counted_by_code_and_reason(
        self, kind: BadToken, issuer: LocalIssuer, recording: Recording
    ) -> None:
        headers = bearer(issuer.bad_token(kind))

        assert build_client(issuer.auth()).get("/any", headers=headers).status_code == 401

        recorded = recording.read()
        assert recorded["fastapi_logto.refusals"] == [refusal("invalid_token", BAD_TOKENS[kind], 401)]
        (point,) = recorded["fastapi_logto.verification.duration"]
        assert (point.value, point.attributes) == (1, {"error.type": BAD_TOKENS[kind]})
        assert 0 < point.total < 60
        assert "fastapi_logto.verifications" not in recorded

    def test_a_request_without_a_token_is_counted(self, issuer: LocalIssuer, recording: Recording) -> None:
        build_client(issuer.auth()).get("/any")

        recorded = recording.read()
        expected = refusal("auth.authorization_header_missing", "header_missing", 401)
        assert recorded["fastapi_logto.refusals"] == [expected]
        assert "fastapi_logto.verification.duration" not in recorded

    def test_a_valid_token_without_the_scope_is_counted_as_verified_and_refused(
        self, issuer: LocalIssuer, recording: Recording
    ) -> None:
        build_client(issuer.auth()).get("/scoped", headers=bearer(issuer.access_token(scopes=[])))

        recorded = recording.read()
        assert recorded["fastapi_logto.refusals"] == [refusal("insufficient_scope", "scope", 403)]
        assert counted(recorded, "fastapi_logto.verifications", "fastapi_logto.source") == {"signature": 1}

    def test_an_unreachable_issuer_is_counted_as_503(self, issuer: LocalIssuer, recording: Recording) -> None:
        client = build_client(issuer.auth())

        with issuer.outage():
            client.get("/any", headers=bearer(issuer.access_token()))

        expected = refusal("provider_unavailable", "provider_unavailable", 503)
        assert recording.read()["fastapi_logto.refusals"] == [expected]

    def test_a_refusal_in_the_applications_own_code_is_counted_once(
        self, issuer: LocalIssuer, recording: Recording
    ) -> None:
        build_client(issuer.auth()).get("/verify", params={"token": issuer.bad_token("expired")})

        assert recording.read()["fastapi_logto.refusals"] == [refusal("invalid_token", "expired", 401)]

    def test_a_refused_websocket_is_counted(self, issuer: LocalIssuer, recording: Recording) -> None:
        with (
            suppress(WebSocketDisconnect),
            build_client(issuer.auth()).websocket_connect("/socket", headers=bearer(issuer.bad_token("expired"))),
        ):
            pass

        assert recording.read()["fastapi_logto.refusals"] == [refusal("invalid_token", "expired", 401)]

    def test_the_log_record_of_a_refusal_has_its_parts_as_fields(
        self, issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = build_client(issuer.auth())

        with caplog.at_level(logging.INFO, logger="fastapi_logto"):
            client.get("/any", headers=bearer(issuer.bad_token("wrong_audience")))
            client.get("/any")

        assert [read_fields(record) for record in caplog.records if record.message.startswith("refused")] == [
            {"logto_code": "invalid_token", "logto_reason": "audience", "logto_status": 401, "logto_claim": "aud"},
            {
                "logto_code": "auth.authorization_header_missing",
                "logto_reason": "header_missing",
                "logto_status": 401,
            },
        ]


def read_fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name.startswith("logto_")}


class TestKeyFetches:
    async def test_a_fetch_of_usable_keys_is_a_success_and_any_other_a_failure(self, recording: Recording) -> None:
        bench = build_bench()
        await bench.find()
        bench.provider.jwks = {"keys": []}
        bench.clock.advance(TTL)
        at_once(bench.find())
        await finish_fetches()

        assert recording.read()["fastapi_logto.key_fetches"] == [
            Point(1, {"fastapi_logto.outcome": "failure", **LOGTO}),
            Point(1, {"fastapi_logto.outcome": "success", **LOGTO}),
        ]

    @pytest.mark.parametrize(
        ("fault", "status"), [(500, 500), (b"<html>", None), (httpx.ConnectError("away"), None)], ids=ascii
    )
    async def test_the_log_record_of_a_failed_fetch_has_its_parts_as_fields(
        self, fault: int | bytes | httpx.TransportError, status: int | None, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = build_bench()
        bench.provider.discovery["jwks_uri"] = f"{ENDPOINT}{JWKS_PATH}?key=of-the-url"
        bench.provider.faults = {JWKS_PATH: fault}

        await bench.unavailable()

        (record,) = caplog.records
        fields = read_fields(record)
        assert 0 < fields.pop("logto_next_try_seconds") <= 1.5
        assert fields == {"logto_url": f"{ENDPOINT}{JWKS_PATH}", "logto_status": status}

    async def test_a_failure_that_concerns_no_url_has_none_in_its_log_record(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = build_bench()
        bench.provider.jwks = {"keys": []}

        await bench.unavailable()

        assert [read_fields(record)["logto_url"] for record in caplog.records] == [None]


class TestIntrospections:
    async def test_an_opaque_token_is_verified_by_introspection(self, recording: Recording) -> None:
        bench = test_introspection.Bench()
        token = bench.issuer.opaque_token(subject="alice", scopes=["openid"])

        for _ in range(3):
            await bench.auth.verify(token)

        recorded = recording.read()
        assert recorded["fastapi_logto.verifications"] == [Point(3, {"fastapi_logto.source": "introspection"})]
        # The response was cached.
        assert recorded["fastapi_logto.introspections"] == [Point(1, {"fastapi_logto.outcome": "accepted"})]
        assert "fastapi_logto.verification.duration" not in recorded

    async def test_a_token_that_is_not_active_is_rejected(self, recording: Recording) -> None:
        bench = test_introspection.Bench()

        assert await bench.refused(test_introspection.OPAQUE) == (401, "inactive")

        assert recording.read()["fastapi_logto.introspections"] == [Point(1, {"fastapi_logto.outcome": "rejected"})]

    @pytest.mark.parametrize("status", [400, 500])
    async def test_an_endpoint_that_fails_is_a_failure(self, status: int, recording: Recording) -> None:
        bench = test_introspection.Bench()
        bench.provider.say({"error": "invalid_request"}, status=status)

        assert await bench.refused(test_introspection.OPAQUE) == (503, "provider_unavailable")

        assert recording.read()["fastapi_logto.introspections"] == [Point(1, {"fastapi_logto.outcome": "failure"})]

    async def test_a_request_that_is_not_sent_is_not_counted(self, recording: Recording) -> None:
        bench = test_introspection.Bench()
        bench.provider.say({}, status=500)

        for _ in range(3):
            await bench.refused(test_introspection.OPAQUE)

        assert counted(recording.read(), "fastapi_logto.introspections", "fastapi_logto.outcome") == {"failure": 1}

    @pytest.mark.parametrize("status", [404, 429, 503])
    async def test_the_log_record_of_a_failure_has_its_parts_as_fields(
        self, status: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = test_introspection.Bench()
        bench.provider.say({}, status=400)
        await bench.refused(test_introspection.OPAQUE)
        bench.provider.say({}, status=status)
        await bench.refused(test_introspection.OPAQUE + "x")

        first, second = (read_fields(record) for record in caplog.records)
        url = f"{bench.issuer.issuer}/token/introspection"
        assert first == {"logto_url": url, "logto_status": 400}
        assert 0 < second.pop("logto_next_try_seconds") <= 1.5
        assert second == {"logto_url": url, "logto_status": status}


class TestFetches:
    def test_each_fetch_is_a_span_and_a_value_of_the_histogram(self, recording: Recording) -> None:
        provider = FakeProvider(LocalIssuer().jwks())
        transport = provider.build_transport()

        asyncio.run(transport.fetch_json(f"{ENDPOINT}{DISCOVERY_PATH}?secret=x#y", purpose="discovery"))

        shared = {
            "fastapi_logto.purpose": "discovery",
            "http.request.method": "GET",
            "http.response.status_code": 200,
            **LOGTO,
        }
        (span,) = recording.read_spans()
        assert (span.name, span.kind, span.status.status_code) == (
            f"GET {DISCOVERY_PATH}",
            SpanKind.CLIENT,
            StatusCode.UNSET,
        )
        assert read_attributes(span) == {
            "url.full": f"{ENDPOINT}{DISCOVERY_PATH}",
            "url.template": DISCOVERY_PATH,
            **shared,
        }
        (point,) = recording.read()["fastapi_logto.fetch.duration"]
        assert (point.value, point.attributes) == (1, shared)
        # The conventions recommend these for HTTP clients.
        bounds = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
        assert point.bounds == bounds

    @pytest.mark.parametrize(
        ("url", "port"),
        [("https://a.example/", 443), ("http://a.example/", 80), ("https://a.example:8443/", 8443), ("odd", None)],
    )
    def test_the_port_is_that_of_the_scheme_unless_the_url_names_one(
        self, url: str, port: int | None, recording: Recording
    ) -> None:
        provider_telemetry.count_key_fetch(url, "success")

        assert list(counted(recording.read(), "fastapi_logto.key_fetches", "server.port")) == [port]

    @pytest.mark.parametrize(
        ("fault", "error", "more"),
        [
            (400, "400", {"http.response.status_code": 400}),
            (404, "404", {"http.response.status_code": 404}),
            (503, "503", {"http.response.status_code": 503}),
            (httpx.ConnectTimeout("slow"), "timeout", {}),
            (httpx.ConnectError("away"), "connection", {}),
            (httpx.RemoteProtocolError("odd"), "http", {}),
        ],
        ids=["400", "404", "503", "timeout", "connection", "protocol"],
    )
    async def test_a_fetch_that_fails_has_the_type_of_its_error(
        self, fault: int | httpx.TransportError, error: str, more: dict[str, Any], recording: Recording
    ) -> None:
        provider = FakeProvider({})
        provider.faults = {JWKS_PATH: fault}

        with suppress(ExchangeError):
            await provider.build_transport().exchange(f"{ENDPOINT}{JWKS_PATH}", Request(), purpose="keys")

        (span,) = recording.read_spans()
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        assert span.events == ()
        expected = {
            "fastapi_logto.purpose": "keys",
            "http.request.method": "GET",
            "error.type": error,
            **more,
            **LOGTO,
        }
        assert read_attributes(span).items() >= expected.items()
        assert [point.attributes for point in recording.read()["fastapi_logto.fetch.duration"]] == [expected]

    async def test_a_response_that_does_not_end_in_time_is_a_timeout(self, recording: Recording) -> None:
        provider = FakeProvider({})
        provider.gate = asyncio.Event()

        with pytest.raises(ExchangeError):
            await provider.build_transport(timeout_seconds=0.01).exchange(ENDPOINT, Request())

        assert [read_attributes(span)["error.type"] for span in recording.read_spans()] == ["timeout"]

    async def test_a_fetch_that_is_cancelled_says_so(self, recording: Recording) -> None:
        provider = FakeProvider({})
        provider.gate = asyncio.Event()
        fetch = asyncio.create_task(provider.build_transport().exchange(ENDPOINT, Request()))
        await wait_until(lambda: provider.counts.total() > 0)
        fetch.cancel()
        await asyncio.wait([fetch])

        assert [read_attributes(span)["error.type"] for span in recording.read_spans()] == ["cancelled"]

    async def test_the_path_of_the_management_api_is_not_recorded_because_it_contains_ids(
        self, recording: Recording, caplog: pytest.LogCaptureFixture
    ) -> None:
        provider = FakeProvider({})
        provider.faults = {f"/api/users/{SUBJECT}": 200}

        with caplog.at_level(logging.DEBUG, logger="fastapi_logto"):
            await provider.build_transport().exchange(
                f"{ENDPOINT}/api/users/{SUBJECT}", Request(), purpose="management"
            )

        (span,) = recording.read_spans()
        assert span.name == "GET"
        assert read_attributes(span) == {
            "fastapi_logto.purpose": "management",
            "http.request.method": "GET",
            "http.response.status_code": 200,
            **LOGTO,
        }
        assert SUBJECT not in caplog.text

    @pytest.mark.parametrize("kind", ["document", "response", "unparsed"])
    async def test_a_fetch_whose_purpose_is_not_named_hides_its_path_too(self, kind: str, recording: Recording) -> None:
        provider = FakeProvider({})
        transport, url = provider.build_transport(), f"{ENDPOINT}/api/users/{SUBJECT}"

        if kind == "document":
            await transport.fetch_json(url)
        else:
            await (transport.send if kind == "response" else transport.exchange)(url, Request())

        (span,) = recording.read_spans()
        assert (span.name, read_attributes(span)["fastapi_logto.purpose"]) == ("GET", "other")
        assert SUBJECT not in str(read_attributes(span))

    async def test_an_invalid_url_has_no_address(self, recording: Recording) -> None:
        for url in ("http://[", "http://host:port"):
            with pytest.raises(ExchangeError):
                await Transport(timeout_seconds=5).exchange(url, Request(), purpose="keys")

        shared = {"fastapi_logto.purpose": "keys", "http.request.method": "GET", "server.address": ""}
        assert [read_attributes(span).items() >= shared.items() for span in recording.read_spans()] == [True, True]
        for point in recording.read()["fastapi_logto.fetch.duration"]:
            assert point.attributes.keys() == {*shared, "error.type"}

    def test_the_fetches_for_a_request_are_named_by_their_purpose(
        self, issuer: LocalIssuer, recording: Recording
    ) -> None:
        build_client(issuer.auth()).get("/any", headers=bearer(issuer.access_token()))

        recorded = recording.read()
        assert counted(recorded, "fastapi_logto.fetch.duration", "fastapi_logto.purpose") == {"discovery": 1, "keys": 1}
        assert [span.name for span in recording.read_spans()] == [f"GET {DISCOVERY_PATH}", f"GET {JWKS_PATH}"]

    async def test_the_requests_of_the_client_are_named_by_their_purpose(self, recording: Recording) -> None:
        bench = clients.Bench()
        await bench.client.create_subject_token(BOB, resource=MANAGEMENT)
        with suppress(GrantError):
            await bench.client.get_userinfo("opaque")

        recorded = recording.read()
        assert counted(recorded, "fastapi_logto.fetch.duration", "fastapi_logto.purpose") == {
            "discovery": 1,
            "token": 1,
            "management": 1,
            "userinfo": 1,
        }
        token = next(span for span in recording.read_spans() if span.name == "POST /oidc/token")
        assert read_attributes(token)["url.full"] == f"{bench.issuer.issuer}/token"

    async def test_the_requests_of_a_delivery_log_are_named_by_their_purpose(self, recording: Recording) -> None:
        revocations = Revocations(log=FakeLog().build(clock=ManualClock(now=NOW)))
        feed = find_feeds(revocations).current
        await feed.warm()
        await feed.close()

        recorded = recording.read()
        assert counted(recorded, "fastapi_logto.fetch.duration", "fastapi_logto.purpose") == {
            "discovery": 1,
            "token": 1,
            "management": 2,
        }

    async def test_introspection_is_named_by_its_purpose(self, recording: Recording) -> None:
        await test_introspection.Bench().refused(test_introspection.OPAQUE)

        recorded = recording.read()
        assert counted(recorded, "fastapi_logto.fetch.duration", "fastapi_logto.purpose") == {
            "discovery": 1,
            "introspection": 1,
        }
        assert [span.name for span in recording.read_spans()] == [
            f"GET {DISCOVERY_PATH}",
            "POST /oidc/token/introspection",
        ]

    async def test_a_fetch_is_part_of_the_trace_of_the_request_that_starts_it(self, recording: Recording) -> None:
        bench = build_bench()
        await bench.find()
        bench.clock.advance(TTL)
        recording.read_spans()

        with trace.get_tracer("fastapi_logto").start_as_current_span("request") as request:
            # In the background.
            at_once(bench.find())
        await finish_fetches()

        _, refresh = recording.read_spans()
        assert (refresh.name, refresh.parent) == (f"GET {JWKS_PATH}", request.get_span_context())

    async def test_each_fetch_is_logged_at_debug(self, caplog: pytest.LogCaptureFixture) -> None:
        provider = FakeProvider({})

        with caplog.at_level(logging.DEBUG, logger="fastapi_logto"):
            await provider.build_transport().fetch_json(f"{ENDPOINT}{JWKS_PATH}?secret=x", purpose="keys")
            provider.go_away()
            with pytest.raises(ExchangeError):
                await provider.build_transport().exchange(f"{ENDPOINT}{JWKS_PATH}", Request(), purpose="keys")

        first, second = caplog.records
        assert (first.levelname, first.getMessage()[: -len("0.000 s")]) == (
            "DEBUG",
            f"fetch: GET {ENDPOINT}{JWKS_PATH}: 200 after ",
        )
        fields = read_fields(first)
        assert fields.pop("logto_seconds") > 0
        assert fields == {
            "logto_purpose": "keys",
            "logto_url": f"{ENDPOINT}{JWKS_PATH}",
            "logto_status": 200,
            "logto_error": None,
        }
        assert read_fields(second).items() >= {"logto_status": None, "logto_error": "connection"}.items()


def read_attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


class TestRevocations:
    def test_revocations_are_counted_by_their_source(self, recording: Recording) -> None:
        telemetry.count_revocations(source="webhook", count=3)
        telemetry.count_revocations(source="call")
        telemetry.count_revocations(source="log", count=0)
        telemetry.count_store_failure()

        recorded = recording.read()
        assert recorded["fastapi_logto.revocations"] == [
            Point(1, {"fastapi_logto.source": "call"}),
            Point(3, {"fastapi_logto.source": "webhook"}),
        ]
        assert recorded["fastapi_logto.revocation_store.failures"] == [Point(1, {})]


class TestNothingLeaks:
    def test_nothing_of_a_token_or_a_user_is_recorded_or_logged(
        self, issuer: LocalIssuer, recording: Recording, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = build_client(issuer.auth())
        tokens = [issuer.bad_token(kind, organization_id=ORGANIZATION) for kind in BAD_TOKENS]
        tokens.append(issuer.access_token(scopes=[], organization_id=ORGANIZATION))
        claims = issuer.read_access_token(tokens[-1]) or {}
        people = [*(str(claims[name]) for name in ("sub", "client_id", "organization_id", "jti")), "somebody-else"]

        with caplog.at_level(logging.DEBUG):
            statuses = [client.get("/scoped", headers=bearer(token)).status_code for token in tokens]
            with issuer.outage(), suppress(RefusalError):
                asyncio.run(issuer.auth().verify(tokens[-1]))

        assert (set(statuses[:-1]), statuses[-1]) == ({401}, 403)
        told = collect_texts(recording, caplog.records)
        assert len(told) > 100
        secrets = [*people, *(part for token in tokens for part in token.split(".") if part)]
        assert {(secret, text) for secret in secrets for text in told if secret in text} == set()

    async def test_no_secret_or_token_of_the_client_is_recorded_or_logged(
        self, recording: Recording, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench, opaque = clients.Bench(), test_introspection.Bench()
        token = opaque.issuer.opaque_token(subject=SUBJECT, scopes=["openid"])

        with caplog.at_level(logging.DEBUG):
            issued = (await bench.client.create_subject_token(BOB, resource=MANAGEMENT)).get_secret_value()
            with suppress(GrantError):
                await bench.client.get_userinfo(token)
            await opaque.auth.verify(token)
            opaque.provider.say({"error": token}, status=400)
            await opaque.refused(token + "x")
            opaque.provider.say({"error": clients.SECRET}, status=500)
            await opaque.refused(token + "y")

        told = collect_texts(recording, caplog.records)
        assert len(told) > 50
        for secret in (token, issued, clients.SECRET, SUBJECT, BOB, "local-machine"):
            assert [text for text in told if secret in text] == []


def collect_texts(recording: Recording, records: list[logging.LogRecord]) -> list[str]:
    """Return each text that metrics, spans and the package's log records contain."""
    attributes = [point.attributes for points in recording.read().values() for point in points]
    texts: list[object] = []
    for span in recording.read_spans():
        attributes.append(read_attributes(span))
        texts += [span.name, span.status.description, *(event.name for event in span.events)]
    texts += [text for each in attributes for pair in each.items() for text in pair]
    for record in records:
        if record.name == "fastapi_logto":
            texts += [record.getMessage(), *(text for pair in read_fields(record).items() for text in pair)]
    return [str(text) for text in texts]


PAGE = (ROOT / "docs/how-to/observability.md").read_text()


def read_rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of the tables of a section of the page, by their first cell."""
    (section,) = re.findall(rf"^## {heading}\n((?:(?!## ).*\n)*)", PAGE, re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| `"]
    return {row[0]: row[1:] for row in rows}


def names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def tell_everything() -> None:
    """Record each metric with each of its attributes."""
    issuer = LocalIssuer()
    build_client(issuer.auth()).get("/any", headers=bearer(issuer.bad_token("expired")))
    telemetry.count_verification("cache")
    telemetry.count_revocations(source="call")
    telemetry.count_store_failure()

    async def fetch() -> None:
        await test_introspection.Bench().refused(test_introspection.OPAQUE)
        bench = build_bench()
        bench.provider.faults = {JWKS_PATH: 404}
        await bench.unavailable()

    asyncio.run(fetch())


class TestDocumentation:
    def test_the_page_has_every_metric_with_its_unit_and_attributes(self, recording: Recording) -> None:
        tell_everything()

        documented = {
            name.strip("`"): (cells[0], cells[1].strip("`"), names(cells[2]))
            for name, cells in read_rows("Metrics").items()
            if cells[0] in {"counter", "histogram"}
        }
        assert documented == recording.describe()
        # Each instrument was used.
        assert len(documented) == sum(
            inspect.getsource(module).count("_meter.create_") for module in (telemetry, provider_telemetry)
        )

    def test_the_page_has_every_value_of_an_attribute(self) -> None:
        rows = read_rows("Metrics")

        for row, values in [
            ("`fastapi_logto.source` of a verification", telemetry.VerificationSource),
            ("`fastapi_logto.source` of a revocation", telemetry.RevocationSource),
            ("`fastapi_logto.outcome` of a key fetch", provider_telemetry.FetchOutcome),
            ("`fastapi_logto.outcome` of an introspection", telemetry.IntrospectionOutcome),
            ("`fastapi_logto.purpose`", provider_telemetry.FetchPurpose),
        ]:
            assert names(rows[row][0]) == set(get_args(values)), row
        assert names(rows["`error.type` of a fetch"][0]) == {"timeout", "cancelled", *get_args(FailedLayer)}

    def test_the_page_has_every_attribute_of_a_span(self, recording: Recording) -> None:
        tell_everything()

        recorded = {name for span in recording.read_spans() for name in read_attributes(span)}
        assert {name.strip("`") for name in read_rows("Spans")} == recorded

    def test_the_page_has_every_field_of_a_log_record(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG, logger="fastapi_logto"):
            tell_everything()

        recorded = {name for record in caplog.records for name in read_fields(record)}
        assert {name.strip("`") for name in read_rows("Log records")} == recorded


FORKED = """
import json, os, sys
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient
from fastapi_logto.testing import LocalIssuer, bearer

issuer = LocalIssuer()
auth = issuer.auth()
app = FastAPI()
app.get("/any", dependencies=[Depends(auth)])(lambda: None)
headers = bearer(issuer.access_token())
TestClient(app).get("/any", headers=headers)
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
TestClient(app).get("/any", headers=headers)
scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(json.dumps({
    metric.name: metric.data.data_points[0].value
    for scope in scopes if scope.scope.name == "fastapi_logto" for metric in scope.metrics
}))
"""


class TestProviders:
    def test_a_process_records_from_when_it_sets_an_sdk_also_after_a_fork(self) -> None:
        done = run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED],
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.stderr == ""
        assert json.loads(done.stdout) == {"fastapi_logto.verifications": 1}

    def test_without_an_sdk_the_package_works(self) -> None:
        code = FORKED.partition("if os.fork()")[0] + "assert 'opentelemetry.sdk' not in sys.modules"

        done = run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

        assert (done.returncode, done.stderr) == (0, "")
