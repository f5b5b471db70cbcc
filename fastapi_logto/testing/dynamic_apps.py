"""The setting of a local issuer for applications that are not registered."""

from collections.abc import Collection
from dataclasses import dataclass

from fastapi_logto.testing.texts import as_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicApps:
    """Accept applications that are not registered. Their client id is the https URL of a document that describes them.

    The issuer fetches the document from public addresses only, without following redirects.

    Attributes:
        scopes: The scopes that such an application can get. Others are removed from its requests without an error,
            except `openid` and `offline_access`, which are always allowed.
        allow_loopback: Also accept documents on loopback addresses, with https or http. Anyone who can send a request
            to the issuer can then make it request any URL on this machine, so use it in tests only.

    References:
        draft-ietf-oauth-client-id-metadata-document.
    """

    scopes: Collection[str]
    allow_loopback: bool = False

    def __post_init__(self) -> None:
        """Store plain texts."""
        object.__setattr__(self, "scopes", as_texts(self.scopes, what="scopes"))
