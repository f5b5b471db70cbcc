"""The verifiers that the differential run compares: ours, PyJWT and npm's `jose`, configured alike."""

import json
import shutil
import subprocess
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import IO, Any, Final, Self

import jwt
from jwt import api_jwt

from fastapi_logto import LogtoAuth, RefusalError
from tests.vectors.forge import API, ISSUER_URL, NOW

__all__ = [
    "ALGORITHMS",
    "REQUIRED_CLAIMS",
    "Jose",
    "PeerMissingError",
    "PyJwt",
    "Verdict",
    "ask_ours",
    "freeze_pyjwt",
    "run_jose",
]

ALGORITHMS: Final = ("ES256", "ES384", "RS256")
REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "exp", "client_id", "iat", "jti")
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
_LEEWAY_SECONDS: Final = 10
_DIRECTORY: Final = Path(__file__).parent / "jose"
_END_SECONDS: Final = 5


class PeerMissingError(Exception):
    """A real part that the comparison needs is missing. The message says what to install."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verifier says of a token.

    Attributes:
        accepts: Whether it accepts the token.
        surprise: The class of an exception that it does not document, for a refusal by accident.
    """

    accepts: bool
    surprise: str | None = None


async def ask_ours(auth: LogtoAuth, token: str) -> Verdict:
    """Return our verdict. Any exception but a refusal is a surprise."""
    try:
        await auth.verify(token)
    except RefusalError:
        return Verdict(accepts=False)
    except Exception as error:  # noqa: BLE001 - the finding itself
        return Verdict(accepts=False, surprise=type(error).__name__)
    return Verdict(accepts=True)


class _FixedTime(datetime):
    """The time of the forge."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(NOW, tz or UTC)


class PyJwt:
    """PyJWT with the key that the header's `kid` names, as an application of it finds it."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._keys: list[jwt.PyJWK] = jwt.PyJWKSet.from_dict(dict(jwks)).keys

    def ask(self, token: str) -> Verdict:
        """Return PyJWT's verdict."""
        try:
            header = jwt.get_unverified_header(token)
            typ = header.get("typ")
            if not isinstance(typ, str) or typ.lower() not in _TYPES:
                return Verdict(accepts=False)
            jwt.decode(
                token,
                self._find_key(header),
                algorithms=list(ALGORITHMS),
                audience=API,
                issuer=ISSUER_URL,
                leeway=_LEEWAY_SECONDS,
                options={"require": list(REQUIRED_CLAIMS)},
            )
        except (jwt.PyJWTError, LookupError):
            return Verdict(accepts=False)
        except Exception as error:  # noqa: BLE001 - a peer's surprise is a refusal, and is counted
            return Verdict(accepts=False, surprise=type(error).__name__)
        return Verdict(accepts=True)

    def _find_key(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        if "kid" in header:
            return next(key for key in self._keys if key.key_id == header["kid"])
        fitting = [key for key in self._keys if key.algorithm_name == header.get("alg")]
        if len(fitting) != 1:
            raise LookupError
        return fitting[0]


@contextmanager
def freeze_pyjwt() -> Generator[None]:
    """Have PyJWT, which takes no clock, read the time of the forge."""
    # A name that the module imports and does not export.
    names = api_jwt.__dict__
    before = names["datetime"]
    names["datetime"] = _FixedTime
    try:
        yield
    finally:
        names["datetime"] = before


class Jose:
    """A running node process that answers for npm's `jose`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: IO[str] = process.stdin
        self._out: IO[str] = process.stdout

    def start(self, tokens: Sequence[str]) -> None:
        """Hand tokens over. The process works on them while this one does something else.

        The verdicts of one call must fit into a pipe: otherwise each process would wait for the other.
        """
        self._in.writelines(f"{json.dumps(token)}\n" for token in tokens)
        self._in.flush()

    def read(self, count: int) -> list[Verdict]:
        """Return the verdicts of as many tokens."""
        verdicts: list[Verdict] = []
        for _ in range(count):
            mark, _, surprise = self._out.readline().strip().partition(" ")
            if mark not in {"0", "1"}:
                raise PeerMissingError("jose: the node process ended too early")
            verdicts.append(Verdict(accepts=mark == "1", surprise=surprise or None))
        return verdicts


@contextmanager
def run_jose(jwks: Mapping[str, Any]) -> Generator[Jose]:
    """Run `jose` in a node process.

    Raises:
        PeerMissingError: Node or the package is missing.
    """
    node = shutil.which("node")
    if node is None or not (_DIRECTORY / "node_modules" / "jose").is_dir():
        raise PeerMissingError("jose: node or its package is missing; install Node.js 20 and run make attack")
    options = {
        "jwks": jwks,
        "now": NOW,
        "algorithms": ALGORITHMS,
        "issuer": ISSUER_URL,
        "audience": API,
        "typ": "at+jwt",
        "clockTolerance": _LEEWAY_SECONDS,
        "requiredClaims": REQUIRED_CLAIMS,
    }
    command = [node, str(_DIRECTORY / "verdicts.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            jose = Jose(process)
            jose.start([])
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(options)}\n")
            yield jose
            process.stdin.close()
            process.wait(_END_SECONDS)
        finally:
            process.kill()
