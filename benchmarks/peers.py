"""Peers, each set up as in its own documentation, with its key cache enabled.

They need the packages of `benchmarks/peers.txt`. Each builder imports only its peer.
"""

import json
import os
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from benchmarks.common import AUDIENCE, freeze

_bearer = HTTPBearer()
_Credentials = Annotated[HTTPAuthorizationCredentials, Depends(_bearer)]


def _build(dependencies: Sequence[Any], **arguments: Any) -> FastAPI:
    app = FastAPI(**arguments)

    @app.get("/protected", dependencies=dependencies)
    async def protected() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/open")
    async def unrelated() -> dict[str, str]:
        return {"hello": "world"}

    return app


def pyjwt(endpoint: str, algorithm: str) -> FastAPI:
    """PyJWT with `PyJWKClient`, as in its docs on retrieving keys and in Logto's guide for FastAPI."""
    import jwt

    client = jwt.PyJWKClient(f"{endpoint}/oidc/jwks")

    async def verify(credentials: _Credentials) -> Any:
        try:
            key = client.get_signing_key_from_jwt(credentials.credentials)
            return jwt.decode(
                credentials.credentials, key, algorithms=[algorithm], audience=AUDIENCE, issuer=f"{endpoint}/oidc"
            )
        except jwt.PyJWTError as error:
            raise HTTPException(401) from error

    return _build([Depends(verify)])


def joserfc(endpoint: str, algorithm: str) -> FastAPI:
    """Plain joserfc with a key set that is fetched once."""
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet

    with urllib.request.urlopen(f"{endpoint}/oidc/jwks") as response:
        keys = KeySet.import_key_set(json.load(response))
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": f"{endpoint}/oidc"},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
    )

    async def verify(credentials: _Credentials) -> Any:
        try:
            token = jwt.decode(credentials.credentials, keys, algorithms=[algorithm])
            registry.validate(token.claims)
        except (JoseError, ValueError) as error:
            raise HTTPException(401) from error
        return token.claims

    return _build([Depends(verify)])


def python_jose(endpoint: str, algorithm: str) -> FastAPI:
    """python-jose as in Logto's former guide for Python, but with the key set cached for five minutes."""
    from jose import JWTError, jwt

    held: dict[str, Any] = {"keys": None, "at": 0.0}

    def find_keys() -> Any:
        if held["keys"] is None or time.monotonic() - held["at"] > 300:
            with urllib.request.urlopen(f"{endpoint}/oidc/jwks") as response:
                held.update(keys=json.load(response), at=time.monotonic())
        return held["keys"]

    async def verify(credentials: _Credentials) -> Any:
        try:
            return jwt.decode(
                credentials.credentials,
                find_keys(),
                algorithms=[algorithm],
                audience=AUDIENCE,
                issuer=f"{endpoint}/oidc",
                options={"verify_at_hash": False},
            )
        except JWTError as error:
            raise HTTPException(401) from error

    return _build([Depends(verify)])


def logto_guide(endpoint: str, algorithm: str) -> FastAPI:
    """python-jose as in Logto's former guide for Python: the key set is fetched for each request."""
    from jose import JWTError, jwt

    def verify(credentials: _Credentials) -> Any:
        with urllib.request.urlopen(f"{endpoint}/oidc/jwks") as response:
            keys = json.load(response)
        try:
            return jwt.decode(
                credentials.credentials,
                keys,
                algorithms=[algorithm],
                audience=AUDIENCE,
                issuer=f"{endpoint}/oidc",
                options={"verify_at_hash": False},
            )
        except JWTError as error:
            raise HTTPException(401) from error

    return _build([Depends(verify)])


def fastmcp(endpoint: str, algorithm: str) -> FastAPI:
    """Fastmcp's `JWTVerifier`."""
    from fastmcp.server.auth.providers.jwt import JWTVerifier

    verifier = JWTVerifier(
        jwks_uri=f"{endpoint}/oidc/jwks",
        issuer=f"{endpoint}/oidc",
        audience=AUDIENCE,
        algorithm=algorithm,
        required_scopes=["read:user"],
    )

    async def verify(credentials: _Credentials) -> Any:
        token = await verifier.verify_token(credentials.credentials)
        if token is None:
            raise HTTPException(401)
        return token

    return _build([Depends(verify)])


def mcpauth(endpoint: str, _algorithm: str) -> FastAPI:
    """Mcpauth's middleware, which protects a whole application."""
    from mcpauth import MCPAuth
    from mcpauth.config import AuthServerType
    from mcpauth.utils import fetch_server_config

    server = fetch_server_config(f"{endpoint}/oidc", AuthServerType.OIDC)
    middleware = MCPAuth(server=server).bearer_auth_middleware("jwt", audience=AUDIENCE, required_scopes=["read:user"])
    app = _build([])
    app.add_middleware(middleware)
    return app


def azure_auth(endpoint: str, _algorithm: str) -> FastAPI:
    """The class of fastapi-azure-auth for B2C tenants, configured for another provider."""
    from fastapi_azure_auth import B2CMultiTenantAuthorizationCodeBearer

    async def find_issuer(tid: str) -> str:
        return f"{endpoint}/oidc"

    scheme = B2CMultiTenantAuthorizationCodeBearer(
        app_client_id=AUDIENCE,
        openid_config_url=f"{endpoint}/oidc/.well-known/openid-configuration",
        openapi_authorization_url=f"{endpoint}/oidc/auth",
        openapi_token_url=f"{endpoint}/oidc/token",
        scopes={"read:user": "read"},
        iss_callable=find_issuer,
    )
    return _build([Security(scheme, scopes=["read:user"])])


def zitadel_auth(endpoint: str, _algorithm: str) -> FastAPI:
    """The scheme of fastapi-zitadel-auth, configured for another provider."""
    from fastapi_zitadel_auth import ZitadelAuth

    scheme = ZitadelAuth(
        issuer_url=f"{endpoint}/oidc", project_id=AUDIENCE, app_client_id=AUDIENCE, allowed_scopes={"read:user": "read"}
    )
    return _build([Security(scheme, scopes=["read:user"])])


def oidc_guard(endpoint: str, algorithm: str) -> FastAPI:
    """The JWT-only profile of fastapi-oidc-guard."""
    from fastapi_oidc_guard import Authenticated, OidcAuthenticator, OidcConfig, VerifiedToken

    @dataclass(frozen=True, slots=True)
    class Caller:
        client_id: str

    async def resolve(token: VerifiedToken) -> Caller | None:
        return Caller(str(token.claims["client_id"])) if "read:user" in str(token.claims["scope"]).split() else None

    config = OidcConfig(
        issuer=f"{endpoint}/oidc",
        audience=AUDIENCE,
        expected_token_type="at+jwt",
        allowed_algorithms=(algorithm,),
        openapi_authorization_code=False,
        allow_insecure_http=True,
    )
    authenticator = OidcAuthenticator.jwt_only(config, resolve)
    app = FastAPI(lifespan=authenticator.lifespan)

    async def protected(_caller: Any) -> dict[str, str]:
        return {"hello": "world"}

    protected.__annotations__["_caller"] = Authenticated[Caller]
    app.get("/protected")(protected)

    @app.get("/open")
    async def unrelated() -> dict[str, str]:
        return {"hello": "world"}

    return app


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer.

    Attributes:
        label: Its name in the results.
        algorithms: The algorithms that it verifies.
        build: Returns its application for a provider and an algorithm.
        profile: The kind of tokens it expects; a key of `provider.PROFILES`.
    """

    label: str
    algorithms: frozenset[str]
    build: Callable[[str, str], FastAPI]
    profile: str = "logto"


_ALL: Final = frozenset({"ES384", "ES256", "RS256"})

PEERS: Final[dict[str, Peer]] = {
    "joserfc": Peer("joserfc", _ALL, joserfc),
    "pyjwt": Peer("PyJWT, PyJWKClient", _ALL, pyjwt),
    "python_jose": Peer("python-jose", _ALL, python_jose),
    "logto_guide": Peer("python-jose, Logto's former guide", _ALL, logto_guide),
    "oidc_guard": Peer("fastapi-oidc-guard", _ALL, oidc_guard),
    "fastmcp": Peer("fastmcp JWTVerifier", _ALL, fastmcp),
    "mcpauth": Peer("mcpauth", _ALL, mcpauth),
    "azure_auth": Peer("fastapi-azure-auth", frozenset({"RS256"}), azure_auth, "azure"),
    "zitadel_auth": Peer("fastapi-zitadel-auth", frozenset({"RS256"}), zitadel_auth, "zitadel"),
}


def create_app() -> FastAPI:
    """Return the application selected by environment variables."""
    freeze()
    return PEERS[os.environ["BENCH_PEER"]].build(os.environ["BENCH_ENDPOINT"], os.environ["BENCH_ALGORITHM"])
