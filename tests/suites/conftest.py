"""The example application, as in the integration tests."""

from tests.integration.conftest import example

__all__ = ["example"]
