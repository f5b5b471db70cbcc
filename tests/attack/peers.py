"""The verifiers to compare with: PyJWT, and in a Node.js process `jose`, Logto's guide and `mcp-auth`."""

import json
import shutil
import subprocess
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import IO, Any, Final, Self

import jwt
from jwt import api_jwt
from jwt.warnings import InsecureKeyLengthWarning

from fastapi_logto import LogtoAuth, RefusalError
from tests.vectors.forge import API, ISSUER_URL, NOW

PYJWT: Final = "PyJWT"
JOSE: Final = "jose"
GUIDE: Final = "Logto's guide"
MCP_AUTH: Final = "mcp-auth"
ALGORITHMS: Final = ("ES256", "ES384", "ES512", "RS256")
REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "exp", "client_id", "iat", "jti")
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
_LEEWAY_SECONDS: Final = 10
_DIRECTORY: Final = Path(__file__).parent / "npm"
_PACKAGES: Final = ("jose", "mcp-auth", "express")
_END_SECONDS: Final = 5
_MISSING: Final = "node or its packages are missing; install Node.js 20 and run make attack"


class PeerMissingError(Exception):
    """A dependency of the comparison is missing. The message says what to install."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a verifier on a token.

    Attributes:
        accepts: Whether it accepts the token.
        surprise: The class of an undocumented exception that caused the refusal.
    """

    accepts: bool
    surprise: str | None = None


async def ask_ours(auth: LogtoAuth, token: str) -> Verdict:
    """Return our verdict. Any exception other than a refusal is a surprise."""
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
    """PyJWT with the key of the header's `kid`, as found by its own client for key sets."""

    def __init__(self, jwks: str) -> None:
        self._keys: list[jwt.PyJWK] = []
        self._surprise: str | None = None
        try:
            keys = jwt.PyJWKSet.from_json(jwks).keys
        except jwt.PyJWTError:
            return
        except Exception as error:  # noqa: BLE001 - a peer's surprise is a refusal of every token, and is named
            self._surprise = type(error).__name__
            return
        # Compared one by one: it may be a list.
        self._keys = [key for key in keys if key.public_key_use is None or key.public_key_use == "sig"]

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
            return Verdict(accepts=False, surprise=self._surprise)
        except Exception as error:  # noqa: BLE001 - a peer's surprise is a refusal, and is named
            return Verdict(accepts=False, surprise=type(error).__name__)
        return Verdict(accepts=True)

    def _find_key(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        if "kid" in header:
            found = next((key for key in self._keys if key.key_id == header["kid"]), None)
            if found is None:
                raise LookupError
            return found
        fitting = [key for key in self._keys if key.algorithm_name == header.get("alg")]
        if len(fitting) != 1:
            raise LookupError
        return fitting[0]


@contextmanager
def freeze_pyjwt() -> Generator[None]:
    """Make PyJWT, which has no clock argument, use the time of the forge and accept weak keys without a warning."""
    # A name that the module imports and does not export.
    names = api_jwt.__dict__
    before = names["datetime"]
    names["datetime"] = _FixedTime
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InsecureKeyLengthWarning)
            yield
    finally:
        names["datetime"] = before


class Node:
    """A running Node.js process with several verifiers."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: IO[str] = process.stdin
        self._out: IO[str] = process.stdout

    def use_key_set(self, jwks: str) -> None:
        """Make the verifiers use the keys of a document, which is passed as text."""
        self._write({"keySet": jwks})

    def start(self, tokens: Sequence[str]) -> None:
        """Send tokens. The process verifies them in parallel with this one.

        The verdicts of one call must fit into a pipe: otherwise each process would wait for the other.
        """
        self._write(*tokens)

    def read(self, count: int) -> list[dict[str, Verdict]]:
        """Return the verdicts of the verifiers on this many tokens."""
        return [self._read() for _ in range(count)]

    def _read(self) -> dict[str, Verdict]:
        line = self._out.readline()
        if not line:
            raise PeerMissingError("the node process ended too early")
        return {
            name: Verdict(accepts=value is True, surprise=value if isinstance(value, str) else None)
            for name, value in json.loads(line).items()
        }

    def _write(self, *values: object) -> None:
        self._in.writelines(f"{json.dumps(value)}\n" for value in values)
        self._in.flush()


@contextmanager
def run_node(jwks: str) -> Generator[Node]:
    """Run the verifiers for Node.js in one process, with a first key set.

    Raises:
        PeerMissingError: Node.js or a package is missing.
    """
    options = {
        "now": NOW,
        "algorithms": ALGORITHMS,
        "issuer": ISSUER_URL,
        "audience": API,
        "typ": "at+jwt",
        "clockTolerance": _LEEWAY_SECONDS,
        "requiredClaims": REQUIRED_CLAIMS,
    }
    command = [_find_node(), str(_DIRECTORY / "verdicts.mjs")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(f"{json.dumps(options)}\n")
            node = Node(process)
            node.use_key_set(jwks)
            yield node
            process.stdin.close()
            process.wait(_END_SECONDS)
        finally:
            process.kill()


def find_versions() -> dict[str, str]:
    """Return the versions of the verifiers and of their runtimes."""
    found = subprocess.run([_find_node(), "--version"], capture_output=True, text=True, check=True)
    packages = {name: json.loads(_find_manifest(name).read_text(encoding="utf-8")) for name in _PACKAGES}
    return {
        PYJWT: jwt.__version__,
        "Node.js": found.stdout.strip().removeprefix("v"),
        **{name: str(manifest["version"]) for name, manifest in packages.items()},
    }


def _find_node() -> str:
    node = shutil.which("node")
    if node is None or not all(_find_manifest(name).is_file() for name in _PACKAGES):
        raise PeerMissingError(_MISSING)
    return node


def _find_manifest(name: str) -> Path:
    return _DIRECTORY / "node_modules" / name / "package.json"
