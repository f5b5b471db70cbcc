"""A provider on the loopback address for load tests: its documents, its keys and any number of tokens."""

import json
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs
from uuid import uuid4

from joserfc import jws
from joserfc.jwk import ECKey, Key, RSAKey

from benchmarks.common import AUDIENCE
from fastapi_logto.settings import Algorithm

PROFILES: Final[Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]]] = {
    "logto": ({}, {}),
    # Header members and claims that peers for one specific provider require.
    "azure": ({"typ": "JWT"}, {"ver": "2.0", "nbf": 0, "tid": "tenant", "scp": "read:user"}),
    "zitadel": ({"typ": "JWT"}, {}),
}
"""Additional header members and claims, by the profile of a peer."""

_ACTIVE: Final = "a"
_OPAQUE_LENGTH: Final = 43


def _make_key(algorithm: Algorithm) -> Key:
    if algorithm == "RS256":
        return RSAKey.generate_key(2048, {"use": "sig", "alg": algorithm}, auto_kid=True)
    curves = {"ES256": "P-256", "ES384": "P-384"}
    return ECKey.generate_key(curves[algorithm], {"use": "sig", "alg": algorithm}, auto_kid=True)


class BenchProvider:
    """Serves discovery document, key set and introspection inside its context, and mints tokens.

    Attributes:
        jwks_delay_seconds: The delay of each response with the key set.
        introspection_delay_seconds: The delay of each response about an opaque token.
    """

    def __init__(self, algorithm: Algorithm, *, keys: int = 1) -> None:
        """Create a key for the algorithm (ES384, ES256 or RS256), and others until the key set has `keys`."""
        self.jwks_delay_seconds = 0.0
        self.introspection_delay_seconds = 0.0
        self._algorithm: Algorithm = algorithm
        # Tokens are signed with the last one.
        self._keys = [_make_key(algorithm) for _ in range(keys)]
        self._key = self._keys[-1]
        self._stranger = _make_key(algorithm)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._build_handler())

    @property
    def endpoint(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def issuer(self) -> str:
        """The issuer, in Logto's form."""
        return f"{self.endpoint}/oidc"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def mint(self, profile: str = "logto", **claims: Any) -> str:
        """Return a new valid token for one hour, for a profile of `PROFILES`; `claims` replace its own."""
        return self._sign(self._key, profile, claims)

    def forge(self, profile: str = "logto") -> str:
        """Return a token with the right `kid` that is signed with another key."""
        return self._sign(self._stranger, profile, {})

    def invent(self, *, age_seconds: int = 0) -> str:
        """Return a token with its own `kid`, which is not in the key set, issued some seconds ago."""
        issued_at = int(time.time()) - age_seconds
        return self._sign(self._stranger, "logto", {"iat": issued_at}, kid=f"invented-{uuid4().hex}")

    def mint_opaque(self, *, is_active: bool = True) -> str:
        """Return a new opaque token in Logto's format, active or not according to the introspection."""
        return f"{_ACTIVE if is_active else 'i'}{uuid4().hex}".ljust(_OPAQUE_LENGTH, "x")

    def _sign(self, key: Key, profile: str, changes: Mapping[str, Any], *, kid: str | None = None) -> str:
        header, claims = PROFILES[profile]
        now = int(time.time())
        payload = {
            "iss": self.issuer,
            "sub": "user",
            "aud": AUDIENCE,
            "client_id": "client",
            "iat": now,
            "exp": now + 3600,
            "jti": uuid4().hex,
            "scope": "read:user",
            **claims,
            **changes,
        }
        return jws.serialize_compact(
            {"alg": self._algorithm, "typ": "at+jwt", "kid": kid or str(self._key.kid), **header},
            json.dumps(payload).encode(),
            key,
            algorithms=[self._algorithm],
        )

    def _build_handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(provider.answer(self.path))

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._send(provider.introspect(form))

            def _send(self, document: dict[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
                pass

        return Handler

    def answer(self, path: str) -> dict[str, Any]:
        """Return the document at a path; called by the server's threads."""
        if not path.endswith("/openid-configuration"):
            time.sleep(self.jwks_delay_seconds)
            return {"keys": [key.as_dict(private=False) for key in self._keys]}
        # The path may name one of several tenants.
        issuer = f"{self.endpoint}{path.partition('/.well-known/')[0]}"
        return {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/jwks",
            "authorization_endpoint": f"{issuer}/auth",
            "token_endpoint": f"{issuer}/token",
            "introspection_endpoint": f"{issuer}/token/introspection",
            "userinfo_endpoint": f"{issuer}/me",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._algorithm],
            "code_challenge_methods_supported": ["S256"],
        }

    def introspect(self, form: str) -> dict[str, Any]:
        """Return the response about the opaque token in a form; called by the server's threads."""
        time.sleep(self.introspection_delay_seconds)
        token = parse_qs(form)["token"][0]
        if not token.startswith(_ACTIVE):
            return {"active": False}
        now = int(time.time())
        names = {"sub": "user", "client_id": "client", "iss": self.issuer, "jti": token, "scope": "read:user"}
        return {"active": True, "token_type": "Bearer", "iat": now, "exp": now + 3600, **names}
