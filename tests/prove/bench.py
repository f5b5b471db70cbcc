"""The objects for the scenes: an issuer with new secrets, and all parts of an API that is connected to it."""

import secrets
from dataclasses import dataclass
from typing import Any, Final

from fastapi_logto import LogtoAuth, LogtoSettings
from fastapi_logto.client import LogtoClient
from fastapi_logto.introspection import Introspection
from fastapi_logto.revocation import Revocations
from fastapi_logto.testing import Directory, LocalIssuer, Machine, ManualClock, Organization
from fastapi_logto.testing.directory import MANAGEMENT_API
from tests.attack.provider import TLS
from tests.prove.leak_providers import MAKERS
from tests.prove.observing import Run
from tests.vectors.forge import API, ENDPOINT, NOW

_MACHINE: Final = "api-machine"


def build_directory(secret: str) -> Directory:
    """Return the example's users and applications, and one machine with this secret, a member of an organization."""
    example = Directory.example(API)
    machine = Machine(
        client_id=_MACHINE,
        client_secret=secret,
        scopes={MANAGEMENT_API.indicator: ["all"], API: ["read:user"]},
    )
    return Directory(
        resources=example.resources,
        users=example.users,
        machines=[machine],
        applications=example.applications,
        organizations=[Organization(id="acme", members={_MACHINE: {API: ["read:user"]}})],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """An issuer, and all parts of an API that uses it through one provider."""

    issuer: LocalIssuer
    clock: ManualClock
    secret: str
    signing_key: str
    auth: LogtoAuth
    several: LogtoAuth
    client: LogtoClient
    revocations: Revocations
    token: str
    opaque: str
    personal: str
    one_time: str

    @classmethod
    def create(cls, run: Run, provider: str = "that works") -> "Bench":
        """Build new objects, and learn their secrets."""
        secret, issued = f"{secrets.token_urlsafe(24)}+/&=", secrets.token_urlsafe(32)
        clock = ManualClock(now=NOW)
        issuer = LocalIssuer(endpoint=ENDPOINT, directory=build_directory(secret), clock=clock)
        run.learn_issuer(issuer)
        transport, revocations = MAKERS[provider](issuer, issued), Revocations()
        opaque = Introspection(client_id=_MACHINE, client_secret=secret, allowed_clients=["local-spa"])
        shared: dict[str, Any] = {"clock": clock, "http_transport": transport, "ssl_context": TLS}
        settings = [LogtoSettings(endpoint=one, audience=API) for one in (ENDPOINT, "https://b.example.test")]
        bench = cls(
            issuer=issuer,
            clock=clock,
            secret=secret,
            signing_key=secrets.token_urlsafe(24),
            auth=LogtoAuth(
                endpoint=ENDPOINT,
                audience=API,
                introspection=opaque,
                revocations=revocations,
                accept_subprotocol_tokens=True,
                **shared,
            ),
            several=LogtoAuth(settings=settings, **shared),
            client=LogtoClient(endpoint=ENDPOINT, client_id=_MACHINE, client_secret=secret, **shared),
            revocations=revocations,
            token=issuer.access_token(),
            opaque=issuer.opaque_token(),
            personal=issuer.personal_access_token(),
            one_time=issuer.subject_token(),
        )
        run.learn_secret("the client secret", secret)
        run.canaries.add("the signing key", bench.signing_key)
        run.canaries.add("the token that the provider issued", issued)
        run.canaries.add_token("the access token", bench.token)
        for name in ("opaque", "personal", "one_time"):
            run.canaries.add(f"the {name} token", getattr(bench, name))
        return bench
