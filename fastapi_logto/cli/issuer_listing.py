"""The users and scopes that a running local issuer lists."""

from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.loopback import is_loopback
from fastapi_logto.provider.failures import ExchangeError
from fastapi_logto.provider.transport import Request, Transport
from fastapi_logto.settings import LogtoSettings
from fastapi_logto.strict_json import StrictJsonError, parse_object

_Name = Annotated[str, Field(min_length=1)]
_Scope = Annotated[str, Field(pattern=r"^\S+$")]
_OK: Final = 200


class IssuerListing(BaseModel):
    """The users of a local issuer, and its scopes by resource indicator."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, strict=True, hide_input_in_errors=True)

    users: list[_Name]
    scopes: dict[str, list[_Scope]]


def is_local(settings: LogtoSettings) -> bool:
    """Return whether the tenant is on this machine, so that it may be a local issuer."""
    return is_loopback(urlsplit(settings.fetch_base).hostname or "")


def fetch_listing(settings: LogtoSettings) -> IssuerListing | None:
    """Return the list of a local issuer; `None` for any other tenant, or if it is unreachable."""
    if not is_local(settings):
        return None
    transport = Transport(timeout_seconds=settings.fetch_timeout_seconds)
    try:
        response = run_to_end(transport.exchange(f"{settings.fetch_base}/", Request()))
        return IssuerListing.model_validate(parse_object(response.body)) if response.status == _OK else None
    except (ExchangeError, StrictJsonError, ValidationError):
        return None
