"""Read the users, roles and organizations of a local issuer from a TOML file."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fastapi_logto.cli.results import CommandError
from fastapi_logto.testing import Application, Directory, Machine, Organization, Resource, User
from fastapi_logto.testing.directory import MANAGEMENT_API, ORGANIZATIONS

_Name = Annotated[str, Field(min_length=1)]
_Scope = Annotated[str, Field(pattern=r"^\S+$")]
_ORGANIZATION: Final = "organization"
_MAX_DEPTH: Final = 32
# Matches strings, which may end in up to two extra quotes, and comments, so that brackets in them are not counted.
# Each part of a dotted key is a table inside of the one before.
_DOTTED: Final = re.compile(rf"""(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{_MAX_DEPTH}}}""", re.ASCII)
_TOML: Final = re.compile(
    r"""\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[\[\]{}]""", re.DOTALL
)


class _Table(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Resource(_Table):
    indicator: _Name
    scopes: dict[_Scope, str] = Field(default_factory=dict[str, str])


class _User(_Table):
    username: _Name
    id: str = ""
    name: str = ""
    roles: list[str] = Field(default_factory=list[str])
    suspended: bool = False
    personal_access_tokens: list[str] = Field(default_factory=list[str])
    custom_claims: dict[_Name, JsonValue] = Field(default_factory=dict[str, JsonValue])


class _Machine(_Table):
    client_id: _Name
    client_secret: _Name
    roles: list[str] = Field(default_factory=list[str])


class _Application(_Table):
    client_id: _Name
    redirect_uris: list[str] = Field(default_factory=list[str])
    post_logout_redirect_uris: list[str] = Field(default_factory=list[str])
    third_party: bool = False
    backchannel_logout_uri: str | None = None


class _Organization(_Table):
    id: _Name
    members: dict[str, list[str]] = Field(default_factory=dict[str, list[str]])


class _File(_Table):
    resources: list[_Resource]
    roles: dict[str, dict[str, list[_Scope]]] = Field(default_factory=dict[str, dict[str, list[str]]])
    users: list[_User] = Field(default_factory=list[_User])
    machines: list[_Machine] = Field(default_factory=list[_Machine])
    applications: list[_Application] = Field(default_factory=list[_Application])
    organizations: list[_Organization] = Field(default_factory=list[_Organization])


def read_directory(path: Path) -> Directory:
    """Return the directory that a TOML file describes.

    A role lists scopes by API resource; the key `organization` lists permissions of an organization. Users and
    machines have roles, and members of an organization have roles in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _check_depth(text)
        file = _File.model_validate(tomllib.loads(text))
        return _build(file)
    except OSError as error:
        raise CommandError(f"{path}: expected a file that can be read, found: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise CommandError(f"{path}: {place}: {problem['msg']}") from None
    except ValueError as error:
        # From the TOML parser, or from the directory, e.g. for a scope that no resource has.
        raise CommandError(f"{path}: {error}") from None


def _check_depth(text: str) -> None:
    """Reject deeply nested arrays before parsing: the parser is recursive and would crash a thread with a small stack.

    In text that is not TOML the count may be wrong, but only after the position at which the parser stops.
    """
    if (dotted := _DOTTED.search(text)) is not None:
        line = text.count("\n", 0, dotted.start()) + 1
        raise ValueError(f"expected keys of at most {_MAX_DEPTH} parts, found more (at line {line})")
    depth = 0
    for match in _TOML.finditer(text):
        if match[0] in {"[", "{"}:
            depth += 1
        elif match[0] in {"]", "}"}:
            depth -= 1
        if depth > _MAX_DEPTH:
            line = text.count("\n", 0, match.start()) + 1
            raise ValueError(f"expected arrays and tables of at most {_MAX_DEPTH} levels, found more (at line {line})")


def _check_roles(file: _File) -> None:
    """Reject a role with a scope that no resource has, also if nobody has the role."""
    known = {MANAGEMENT_API.indicator: set(MANAGEMENT_API.scopes)}
    known |= {one.indicator: set(one.scopes) for one in file.resources}
    indicators = ", ".join(one.indicator for one in file.resources)
    for role, held in file.roles.items():
        for indicator, scopes in held.items():
            if indicator != _ORGANIZATION and not set(scopes) <= known.get(indicator, set()):
                expected = ", ".join(sorted(known.get(indicator, ()))) or f"one of the resources {indicators}"
                raise ValueError(f"roles.{role}: expected scopes of {indicator!r}: {expected}, found {scopes}")


def _build(file: _File) -> Directory:
    ids = {user.username: user.id or user.username for user in file.users}
    _check_roles(file)

    def merge(roles: Iterable[str]) -> Mapping[str, list[str]]:
        merged: dict[str, list[str]] = {}
        for role in roles:
            if role not in file.roles:
                raise ValueError(f"roles: expected one of {', '.join(file.roles) or 'none'}, found {role[:80]!r}")
            for indicator, scopes in file.roles[role].items():
                key = ORGANIZATIONS if indicator == _ORGANIZATION else indicator
                merged.setdefault(key, []).extend(scopes)
        return merged

    def merge_own(roles: Iterable[str]) -> Mapping[str, list[str]]:
        # Permissions of an organization are granted to its members only.
        return {key: scopes for key, scopes in merge(roles).items() if key != ORGANIZATIONS}

    return Directory(
        resources=[Resource(indicator=one.indicator, scopes=one.scopes) for one in file.resources],
        users=[
            User(
                id=ids[one.username],
                username=one.username,
                name=one.name or one.username,
                scopes=merge_own(one.roles),
                is_suspended=one.suspended,
                personal_access_tokens=one.personal_access_tokens,
                custom_claims=one.custom_claims,
            )
            for one in file.users
        ],
        machines=[
            Machine(client_id=one.client_id, client_secret=one.client_secret, scopes=merge_own(one.roles))
            for one in file.machines
        ],
        applications=[
            Application(
                client_id=one.client_id,
                redirect_uris=one.redirect_uris,
                post_logout_redirect_uris=one.post_logout_redirect_uris,
                is_third_party=one.third_party,
                backchannel_logout_uri=one.backchannel_logout_uri,
            )
            for one in file.applications
        ],
        organizations=[
            Organization(id=one.id, members={ids.get(who, who): merge(roles) for who, roles in one.members.items()})
            for one in file.organizations
        ],
    )
