"""The local authorization server: an issuer that behaves like Logto, and its endpoints."""

from fastapi_logto.testing.issuer.deliveries import Delivery
from fastapi_logto.testing.issuer.hooks import Hook
from fastapi_logto.testing.issuer.local_issuer import LocalIssuer

__all__ = ["Delivery", "Hook", "LocalIssuer"]
