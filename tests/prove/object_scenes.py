"""Scenes of objects, settings and documents: their representations, copies, pickles, errors and pages."""

import copy
import os
import pickle
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from pydantic import SecretStr

from fastapi_logto import LogtoAuth, LogtoSettings, OrganizationSource
from fastapi_logto.client import GrantError, GrantRefusedError, IssuedToken, LogtoClient
from fastapi_logto.errors import RefusalError
from fastapi_logto.introspection import Introspection
from fastapi_logto.provider.endpoints import Client, Form, build_form_request
from fastapi_logto.provider.transport import RawResponse, Response
from fastapi_logto.revocation import DeliveryLog, RedisStore, Revocation, Revocations
from fastapi_logto.testing import BAD_TOKENS, LocalIssuer, User, claims
from fastapi_logto.verification.bearer import parse_authorization
from fastapi_logto.verification.jws import parse_unverified
from tests.prove import expected
from tests.prove.bench import Bench
from tests.prove.observing import Run, Scene
from tests.prove.scenes import build_app
from tests.vectors.forge import API, ENDPOINT

HOLDERS: Final[Mapping[str, str]] = {
    "IssuedToken": "it is the token that the application needs",
    "Introspection": "the options contain the secret that is sent",
    "SecretStr": "it is the token that the application needs",
    "Machine": "an entry of the local issuer, which checks the secret",
    "User": "an entry of the local issuer, which checks the personal access tokens",
    "Hook": "an entry of the local issuer, which signs with the key",
    "Directory": "it contains entries of the local issuer",
    "Client": "the credentials that are sent",
    "Form": "the fields that are sent",
    "Request": "a request that is sent",
    "RawResponse": "a response of the provider",
    "Response": "a response of the provider",
    "UnverifiedJws": "the parts of a token that are verified",
}
"""Objects whose pickle contains a secret on purpose, with the reason. Their `repr` contains none."""


def _list_objects(bench: Bench) -> list[object]:
    auth, client, secret, issuer = bench.auth, bench.client, bench.secret, bench.issuer
    hidden: tuple[Any, Any] = auth, issuer
    hook = issuer.add_hook("http://127.0.0.1:9/", signing_key=bench.signing_key)
    token = SecretStr(bench.token)
    form = Form((("subject_token", bench.personal),))
    credentials = Client("api", SecretStr(secret))
    document: dict[str, Any] = {"access_token": bench.token}
    return [
        *(auth, auth.optional, auth.for_audience("https://b.example.test", scheme_name="B"), auth.settings),
        *(auth.require_scopes("a"), auth.require_organization(organization=OrganizationSource.from_header("X"))),
        *(auth.unless(build_app), hidden[0]._state, bench.several, client),
        *(
            client.machine_auth(API, base_url="https://orders.example.test"),
            IssuedToken(token=bench.token, scopes=frozenset()),
        ),
        Introspection(client_id="i", client_secret=secret, allowed_clients=["a"]),
        *(bench.revocations, bench.revocations.health(), Revocation(before=1.0, user_id="alice")),
        RedisStore(f"redis://user:{secret[:24]}@127.0.0.1:6379/0"),
        DeliveryLog(ENDPOINT, client_id="m", client_secret=secret, hook_id="hook00000001"),
        *(issuer, issuer.directory, *issuer.directory.machines, hook, issuer.clock, hidden[1]._keys),
        User(id="u", username="u", name="U", personal_access_tokens=[bench.personal]),
        *(claims(), claims(organization_id="acme"), token, parse_authorization([f"Bearer {bench.token}".encode()])),
        parse_unverified(token, algorithms=["ES384"], token_types=["at+jwt"]),
        *(credentials, form, build_form_request(ENDPOINT, form, client=credentials)),
        RawResponse(status=200, headers={"a": secret}, body=bench.token.encode()),
        Response(status=200, document=document, retry_after=secret, location=secret, weight=0),
    ]


async def _run_objects(run: Run) -> None:
    """Search in `repr`, `str`, copies and pickles of every public object, and of those that hold secrets."""
    bench = Bench.create(run)
    app = build_app(bench)
    await run.ask(app, "GET", "/me", headers={"Authorization": f"Bearer {bench.token}"})
    objects = _list_objects(bench)
    objects += [app, app.routes, *app.routes, bench.auth.health(), await bench.auth.verify(bench.token)]
    objects += await _list_errors(run, bench)
    for value in objects:
        name = type(value).__name__
        if _is_ours(value):
            run.outcomes.add("shown", name)
        run.sinks.put(
            "representations", name, repr(value), str(value), f"{value}", ascii([value]), [value, {"a": value}]
        )
        _copy(run, name, value)


def _is_ours(value: object) -> bool:
    return type(value).__module__.startswith("fastapi_logto")


def _copy(run: Run, name: str, value: object) -> None:
    ways: Mapping[str, Callable[[], object]] = {
        "copied": lambda: copy.copy(value),
        "copied deeply": lambda: copy.deepcopy(value),
        "pickled": lambda: pickle.loads(pickle.dumps(value)),  # noqa: S301 - our own
    }
    for way, make in ways.items():
        try:
            made = make()
        except Exception as error:  # noqa: BLE001 - not everything can be copied
            run.sinks.put_error(f"{name}, {way}", error)
            continue
        if _is_ours(value):
            run.outcomes.add(way, name)
        run.sinks.put("copies and pickles", f"{name}, {way}", repr(made), str(made))
        if way == "pickled" and name not in HOLDERS:
            run.sinks.put("copies and pickles", f"{name}, pickle", pickle.dumps(value, 0).decode("latin-1"))


async def _list_errors(run: Run, bench: Bench) -> list[object]:
    """Return the errors of refused tokens and of failed requests."""
    errors: list[object] = []
    for kind in BAD_TOKENS:
        token = bench.issuer.bad_token(kind)
        run.canaries.add_token("the invalid token", token)
        try:
            await bench.auth.verify(token)
        except RefusalError as error:
            errors.append(error)
    for subject in (bench.one_time, bench.one_time, bench.opaque, f"{bench.token}x"):
        try:
            await bench.client.exchange_token(subject, "https://unknown.example.test")
        except GrantError as error:
            errors.append(error)
    errors.append(GrantRefusedError("refused", status=400, error="e", description="d"))
    return errors


class _Builder:
    """Builds an object with valid arguments, some of which can be replaced."""

    def __init__(self, kind: Callable[..., object], **arguments: Any) -> None:
        self._kind = kind
        self._arguments = arguments

    def __call__(self, **changes: Any) -> object:
        return self._kind(**{**self._arguments, **changes})


async def _run_settings(run: Run) -> None:
    """Call every constructor with a secret, and with another argument that is wrong or the secret itself."""
    secret = secrets.token_urlsafe(24)
    run.learn_secret("the secret of the settings", secret)
    url = f"https://user:{secret}@tenant.example.test"
    builders = [
        _Builder(Introspection, client_id="i", client_secret=secret, allowed_clients=["a"]),
        _Builder(LogtoClient, endpoint=ENDPOINT, client_id="m", client_secret=secret),
        _Builder(DeliveryLog, endpoint=ENDPOINT, client_id="m", client_secret=secret, hook_id="hook00000001"),
        _Builder(RedisStore, url=f"redis://u:{secret}@127.0.0.1/0"),
        _Builder(LogtoSettings, endpoint=ENDPOINT, audience=API),
        _Builder(LogtoAuth, endpoint=ENDPOINT, audience=API),
        _Builder(Revocations),
        _Builder(LocalIssuer),
    ]
    wrong: Mapping[str, Any] = {
        "client_id": "",
        "client_secret": f"{secret}\ud800",
        "allowed_clients": [],
        "cache_seconds": -1,
        "max_waiting": 0,
        "endpoint": url,
        "fetch_endpoint": f"{url}?{secret}",
        "issuers": [url],
        "public_url": f"{ENDPOINT}?{secret}",
        "audience": "",
        "hook_id": "?",
        "interval_seconds": 0,
        "url": f"http://u:{secret}@127.0.0.1/x",
        "key": " ",
        "timeout_seconds": -1,
        "settings": 1,
    }
    for build in builders:
        run.build("as it should be", build)
        for name, value in wrong.items():
            run.build(name, partial(build, **{name: value}))
    for text in ("redis://:{0}@h:port/0", "{0}", "rediss://u:{0}@h?ssl_ca_certs=/none", "redis://h/0?password={0}&x=y"):
        run.build("the URL of Redis", partial(RedisStore, text.format(secret)))
    names = {"LOGTO_ENDPOINT": f"https://{secret}@tenant.example.test", "LOGTO_MACHINE_SECRET": secret}
    for audience in (f"https://a?{secret}", API, "\udcff", f"'{API}'", "["):
        names["LOGTO_AUDIENCE"] = audience
        os.environ.update(names)
        try:
            run.build("the environment", LogtoSettings.from_environment)
            await run.attempt("the environment", LogtoAuth().verify(secret))
        finally:
            for name in names:
                del os.environ[name]


async def _run_documents(run: Run) -> None:
    """Search in the pages, the OpenAPI document and the health of an application that was used."""
    bench = Bench.create(run)
    app = build_app(bench)
    headers = {"Authorization": f"Bearer {bench.token}"}
    await run.ask(app, "GET", "/me", headers=headers)
    metadata = "/.well-known/oauth-protected-resource"
    for path in ("/openapi.json", "/docs", "/redoc", metadata, f"{metadata}/{API}", "/docs/oauth2-redirect"):
        response = await run.ask(app, "GET", path, headers=headers)
        run.sinks.put("documents", path, response.text, dict(response.headers))
    run.sinks.put("documents", "health", bench.auth.health(), bench.revocations.health())


OBJECT_SCENES: Final[Mapping[str, Scene]] = {
    "objects": Scene(act=_run_objects, outcomes=expected.OBJECTS),
    "settings": Scene(act=_run_settings, outcomes=expected.SETTINGS),
    "documents": Scene(act=_run_documents, outcomes=expected.DOCUMENTS),
}
