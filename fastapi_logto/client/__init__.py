"""The API as a client: tokens for its own requests to other APIs, and for requests on behalf of its callers."""

from fastapi_logto.client.client import LogtoClient
from fastapi_logto.client.errors import GrantError, GrantRefusedError, GrantUnavailableError, OriginError
from fastapi_logto.client.exchanges import SubjectTokenType
from fastapi_logto.client.grants import IssuedToken
from fastapi_logto.client.machine_auth import MachineAuth

__all__ = [
    "GrantError",
    "GrantRefusedError",
    "GrantUnavailableError",
    "IssuedToken",
    "LogtoClient",
    "MachineAuth",
    "OriginError",
    "SubjectTokenType",
]
