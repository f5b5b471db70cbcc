"""Our route and its baselines, one application each: `uvicorn --factory benchmarks.apps:create_app`.

Every application has the same handler at `/protected`, and the same handler unprotected at `/open`.
"""

import asyncio
import os
from base64 import urlsafe_b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from fastapi import Depends, FastAPI, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from joserfc.jwk import ECKey

from benchmarks.common import AUDIENCE, freeze, hide_aws_lc
from fastapi_logto import LogtoAuth
from fastapi_logto.settings import Algorithm

_bearer = HTTPBearer()


def build_auth(endpoint: str, algorithm: Algorithm) -> LogtoAuth:
    """Return our scheme, set up as in the README."""
    return LogtoAuth(endpoint=endpoint, audience=AUDIENCE, algorithms=[algorithm])


async def require_bearer(credentials: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)]) -> str:
    """Add a dependency on top of a dependency, as a scope check does."""
    return credentials.credentials


def build_key_verify(endpoint: str) -> Callable[..., Any]:
    """Return a dependency that only verifies an ES384 signature, in four threads."""
    jwks = httpx.get(f"{endpoint}/oidc/jwks").json()
    entry = next(key for key in jwks["keys"] if key.get("crv") == "P-384")
    key = ECKey.import_key(entry).public_key
    executor = ThreadPoolExecutor(max_workers=4)

    def verify(public: EllipticCurvePublicKey, token: str) -> None:
        signing_input, _, text = token.rpartition(".")
        signature = urlsafe_b64decode(text)
        pair = encode_dss_signature(int.from_bytes(signature[:48]), int.from_bytes(signature[48:]))
        public.verify(pair, signing_input.encode(), ECDSA(SHA384()))

    async def key_verify(request: Request) -> None:
        token = request.headers["authorization"].removeprefix("Bearer ")
        await asyncio.get_running_loop().run_in_executor(executor, verify, key, token)

    return key_verify


VARIANTS: dict[str, Callable[[str, Algorithm], Any]] = {
    "unprotected": lambda _endpoint, _algorithm: None,
    "HTTPBearer": lambda _endpoint, _algorithm: _bearer,
    "HTTPBearer in a dependency": lambda _endpoint, _algorithm: require_bearer,
    "auth": build_auth,
    "require_scopes": lambda endpoint, algorithm: build_auth(endpoint, algorithm).require_scopes("read:user"),
    "key.verify": lambda endpoint, _algorithm: build_key_verify(endpoint),
}
"""The dependency of the protected route, by name."""


def build(name: str, *, endpoint: str, algorithm: Algorithm) -> FastAPI:
    """Return an application with one protected route.

    `name` is one of `VARIANTS`; `algorithm` is the algorithm of the tokens.
    """
    dependency = VARIANTS[name](endpoint, algorithm)
    app = FastAPI()

    @app.get("/protected", dependencies=[] if dependency is None else [Depends(dependency)])
    async def protected() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/open")
    async def unrelated() -> dict[str, str]:
        return {"hello": "world"}

    return app


def create_app() -> FastAPI:
    """Return the application selected by environment variables."""
    hide_aws_lc()
    algorithm: Any = os.environ["BENCH_ALGORITHM"]
    freeze()
    return build(os.environ["BENCH_VARIANT"], endpoint=os.environ["BENCH_ENDPOINT"], algorithm=algorithm)
