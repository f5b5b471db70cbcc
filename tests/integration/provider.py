"""Start the real OpenID Connect server of `oidc_provider/`, and get tokens from it."""

import base64
import hashlib
import json
import os
import secrets
import select
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final, TypedDict, cast
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
from joserfc.jwk import ECKey, RSAKey

API: Final = "https://api.example.test"
RSA_API: Final = "https://rsa.example.test"
SHORTLIVED_API: Final = "https://shortlived.example.test"
MACHINE_ID: Final = "machine"
MACHINE_SECRET: Final = "machine-secret"
SPA_ID: Final = "spa"
REDIRECT_URI: Final = "http://127.0.0.1:8000/docs/oauth2-redirect"

_DIRECTORY: Final = Path(__file__).parent / "oidc_provider"
_START_SECONDS: Final = 30.0
_END_SECONDS: Final = 5.0
_MOST_REDIRECTS: Final = 5


class TokenAnswer(TypedDict):
    """The JSON body of a token response. Its members depend on the request."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    id_token: str
    refresh_token: str


class ProviderRefusedError(Exception):
    """The server refused: `error` is its OAuth code, `status` the HTTP status, which is 303 for a redirect."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(f"{status} {error}: {description}")
        self.status = status
        self.error = error


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A running server with the machine `machine`, the client `spa` and the accounts `alice`, `bob` and `carol`.

    alice has the scopes `read:user write:user`, bob has `read:user`, carol has none.
    """

    issuer: str

    @property
    def endpoint(self) -> str:
        return self.issuer.removesuffix("/oidc")

    @property
    def port(self) -> int:
        port = urlsplit(self.issuer).port
        assert port is not None
        return port

    def machine_token(self, *, resource: str = API, scope: str = "") -> str:
        return self.machine_answer(resource=resource, scope=scope)["access_token"]

    def machine_answer(self, *, resource: str | None = API, scope: str = "") -> TokenAnswer:
        form = _without_none({"grant_type": "client_credentials", "resource": resource, "scope": scope or None})
        with _client() as client:
            return _token_answer(client.post(f"{self.issuer}/token", data=form, auth=(MACHINE_ID, MACHINE_SECRET)))

    def user_token(self, *, login: str, resource: str = API, scope: str = "read:user write:user") -> str:
        """Return a JWT for `resource`. `openid` is requested too: without it, a user who has no scope is refused."""
        return self.user_answer(login=login, resource=resource, scope=f"openid {scope}")["access_token"]

    def user_answer(
        self,
        *,
        login: str,
        scope: str = "openid",
        resource: str | None = None,
        repeat_resource: bool = True,
        redirect_uri: str = REDIRECT_URI,
    ) -> TokenAnswer:
        """Run the authorization code flow with PKCE.

        `resource` is sent in both requests; without `repeat_resource` only in the first, like Swagger UI does.
        """
        verifier = secrets.token_urlsafe(32)
        with _client() as client:
            code = self._authorize(
                client,
                login_hint=login,
                scope=scope,
                resource=resource,
                redirect_uri=redirect_uri,
                code_challenge=_base64url(hashlib.sha256(verifier.encode()).digest()),
                # Without it, `offline_access` is ignored and there is no refresh token.
                prompt="consent" if "offline_access" in scope.split() else None,
            )
            form = {
                "grant_type": "authorization_code",
                "client_id": SPA_ID,
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
                "resource": resource if repeat_resource else None,
            }
            return _token_answer(client.post(f"{self.issuer}/token", data=_without_none(form)))

    def refresh(self, refresh_token: str, *, resource: str | None = None, scope: str | None = None) -> TokenAnswer:
        form = {
            "grant_type": "refresh_token",
            "client_id": SPA_ID,
            "refresh_token": refresh_token,
            "resource": resource,
            "scope": scope,
        }
        with _client() as client:
            return _token_answer(client.post(f"{self.issuer}/token", data=_without_none(form)))

    def introspect(self, token: str) -> dict[str, object]:
        with _client() as client:
            credentials = (MACHINE_ID, MACHINE_SECRET)
            return _json(
                client.post(f"{self.issuer}/token/introspection", data={"token": token}, auth=credentials),
            )

    def revoke(self, token: str) -> None:
        """Revoke an opaque or a refresh token of the client `spa`."""
        with _client() as client:
            form = {"token": token, "client_id": SPA_ID}
            _refuse_errors(client.post(f"{self.issuer}/token/revocation", data=form))

    def jwks(self) -> list[dict[str, str]]:
        with _client() as client:
            return cast("list[dict[str, str]]", _json(client.get(f"{self.issuer}/jwks"))["keys"])

    def _authorize(self, client: httpx.Client, *, redirect_uri: str, **parameters: str | None) -> str:
        query = {
            "client_id": SPA_ID,
            "response_type": "code",
            "code_challenge_method": "S256",
            "redirect_uri": redirect_uri,
            **_without_none(parameters),
        }
        response = client.get(f"{self.issuer}/auth", params=query)
        for _ in range(_MOST_REDIRECTS):
            if not response.is_redirect:
                break
            location = urljoin(str(response.url), response.headers["Location"])
            if location.startswith(f"{redirect_uri}?"):
                return _code(response.status_code, location)
            response = client.get(location)
        _refuse_errors(response)
        msg = f"the authorization request ended at {response.url} with {response.status_code}"
        raise AssertionError(msg)


def node_is_installed() -> bool:
    """Whether `node` is on the path and `npm ci` was run in `oidc_provider/`."""
    return shutil.which("node") is not None and (_DIRECTORY / "node_modules/oidc-provider/package.json").is_file()


@contextmanager
def run_provider(*, port: int = 0, keys: str = "first", redirect_uris: Sequence[str] = ()) -> Generator[Provider]:
    """Run the server on a free port of 127.0.0.1, or on the given one, and end it.

    Each name in `keys` selects one EC and one RSA key, the same ones throughout the process. The keys of the first
    name sign. `second` is the set after a rotation without grace period, `second first` one with the previous keys.
    """
    environment = {**os.environ, "JWKS": _key_set(keys), "REDIRECT_URIS": " ".join(redirect_uris)}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            ["node", "server.mjs", str(port)],
            cwd=_DIRECTORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            yield Provider(issuer=_read_issuer(process, errors))
        finally:
            _end(process)


def _read_issuer(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
    line = process.stdout.readline() if ready else b""
    if not line:
        errors.seek(0)
        msg = f"oidc-provider did not start: {errors.read().decode(errors='replace')}"
        raise RuntimeError(msg)
    return cast("dict[str, str]", json.loads(line))["issuer"]


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _key_set(names: str) -> str:
    return json.dumps({"keys": [key for name in names.split() for key in _keys(name)]})


@cache
def _keys(_name: str) -> tuple[Mapping[str, object], ...]:
    ec = ECKey.generate_key("P-384", auto_kid=False).as_dict(private=True)
    rsa = RSAKey.generate_key(2048, auto_kid=False).as_dict(private=True)
    return dict(ec), dict(rsa)


def _client() -> httpx.Client:
    return httpx.Client(trust_env=False, timeout=10)


def _token_answer(response: httpx.Response) -> TokenAnswer:
    return cast("TokenAnswer", _json(response))


def _json(response: httpx.Response) -> dict[str, object]:
    _refuse_errors(response)
    return cast("dict[str, object]", response.json())


def _refuse_errors(response: httpx.Response) -> None:
    if response.is_error:
        body = cast("dict[str, str]", response.json())
        raise ProviderRefusedError(response.status_code, body["error"], body.get("error_description", ""))


def _code(status: int, location: str) -> str:
    answer = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    if "error" in answer:
        raise ProviderRefusedError(status, answer["error"], answer.get("error_description", ""))
    return answer["code"]


def _without_none(parameters: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value is not None}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
