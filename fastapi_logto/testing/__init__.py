"""A local issuer shaped like Logto, for development, demos and tests.

Real keys, real signatures and real endpoints; no password anywhere. Never put it where
others can reach it.
"""

from fastapi_logto.testing.directory import Application, Directory, LocalOrganization, Machine, Resource, User
from fastapi_logto.testing.issuer import LocalIssuer

__all__ = ["Application", "Directory", "LocalIssuer", "LocalOrganization", "Machine", "Resource", "User"]
