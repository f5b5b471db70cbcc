"""Read Project Wycheproof's vectors (`data/wycheproof/`, Apache License 2.0, see `LICENSE.wycheproof` there)."""

import json
from pathlib import Path
from typing import Any, Final

_DIRECTORY: Final = Path(__file__).parent / "data" / "wycheproof"
WYCHEPROOF_FILES: Final = (
    "ecdsa_secp256r1_sha256_p1363_test.json",
    "ecdsa_secp384r1_sha384_p1363_test.json",
    "ed25519_test.json",
    "json_web_key_test.json",
    "json_web_signature_test.json",
    "rsa_signature_2048_sha256_test.json",
)


def read_groups(name: str) -> list[dict[str, Any]]:
    """Return the test groups of a file."""
    groups: list[dict[str, Any]] = json.loads((_DIRECTORY / name).read_text(encoding="utf-8"))["testGroups"]
    return groups


def is_symmetric(group: dict[str, Any]) -> bool:
    """Return whether the keys of a JWS group are secrets, which no provider publishes."""
    return "public" not in group


def list_entries(group: dict[str, Any]) -> list[Any]:
    """Return the published keys of a JWS group, as the entries of a key set."""
    published: dict[str, Any] = group.get("public") or group["private"]
    entries: list[Any] = published.get("keys", [published])
    return entries
