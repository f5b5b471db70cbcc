"""Diagnose settings, tenant, Swagger UI, webhook and an optional token, and find the first thing to fix."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from fastapi_logto.cli.doctor.advice import explain_locally, name_arguments
from fastapi_logto.cli.doctor.revocation import check_revocation
from fastapi_logto.cli.doctor.settings import FoundSetting, check_audience, check_source, list_given, list_settings
from fastapi_logto.cli.doctor.swagger import check_swagger
from fastapi_logto.cli.doctor.tenant import check_tenant
from fastapi_logto.cli.doctor.token import check_token
from fastapi_logto.cli.issuer_listing import fetch_listing
from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.cli.results import Check, ExitCode, Section
from fastapi_logto.errors import SettingsError
from fastapi_logto.provider.transport import Transport
from fastapi_logto.revocation import Revocations
from fastapi_logto.settings import LogtoSettings, read_known_variables


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The result of `doctor`. Invalid settings are not listed, and `next_step` is empty if no check failed."""

    settings: tuple[FoundSetting, ...] = ()
    sections: tuple[Section, ...]
    exit_code: int
    next_step: str


def diagnose(
    *,
    env_file: Path | None,
    given: LogtoSettings | None = None,
    revocations: Collection[Revocations] = (),
    docs_url: str,
    token: str | None = None,
    scopes: Collection[str] = (),
    progress: Callable[[str], None],
) -> Diagnosis:
    """Run all checks, each after the checks it depends on. The token is not sent anywhere.

    `given` are settings passed in code; without them, the environment or `env_file` is read. `revocations` are those of
    the application.
    """
    try:
        settings = given or LogtoSettings.from_environment(env_file=env_file)
    except SettingsError as error:
        return _refuse(error)
    sources = check_source(env_file) if given is None else ()
    transport = Transport(timeout_seconds=settings.fetch_timeout_seconds)
    sections = [Section(title="Settings", checks=(*sources, *check_audience(settings)))]
    progress(f"Checking {settings.fetch_base}")
    tenant = check_tenant(settings, transport)
    sections.append(tenant.section)
    if tenant.has_keys:
        progress("Checking the sign-in of Swagger UI")
        sections.append(check_swagger(settings, transport, docs_url=docs_url.rstrip("/")))
        progress("Checking what revocation needs")
        variables = read_known_variables(env_file=env_file).values
        revocation = check_revocation(settings, transport, variables=variables, revocations=revocations)
        sections.extend([] if revocation is None else [revocation])
    if token is not None:
        progress("Checking the token on this machine")
        report = run_to_end(check_token(token, settings=settings, has_keys=tenant.has_keys, scopes=scopes))
        sections.append(report.section)
    if tenant.has_keys and fetch_listing(settings) is not None:
        sections = [explain_locally(section, settings) for section in sections]
    if given is not None:
        sections = [name_arguments(section) for section in sections]
    failed = next((check for section in sections for check in section.checks if check.status == "failed"), None)
    return Diagnosis(
        settings=list_given(given) if given else list_settings(settings, env_file=env_file),
        sections=tuple(sections),
        exit_code=ExitCode.FINE if failed is None else ExitCode.FAILED,
        next_step="" if failed is None else failed.advice,
    )


def _refuse(error: SettingsError) -> Diagnosis:
    checks = [_split(line) for line in str(error).splitlines()]
    return Diagnosis(
        sections=(Section(title="Settings", checks=tuple(checks)),),
        exit_code=ExitCode.USAGE,
        next_step=checks[0].advice or checks[0].found,
    )


def _split(line: str) -> Check:
    # The package's own messages: "variable: expected, found; for example ...", or "file: expected, found; how to fix".
    name, _, rest = line.partition(": ")
    name = name.partition(" ")[0]
    found, example, text = rest.partition("; for example ")
    if example:
        return Check(name=name, status="failed", found=found, advice=f"Set it: {text}")
    found, _, advice = rest.partition("; ")
    return Check(name=name, status="failed", found=found, advice=f"{advice[:1].upper()}{advice[1:]}")
