"""The settings of an application and its Logto tenant, validated once at startup.

A missing setting never disables a check: without an endpoint or an audience there is no `LogtoSettings`.
"""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal, Self, TypeAlias, TypedDict, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from typing_extensions import Unpack

from fastapi_logto.environment import CREDENTIALS, BrokenList, Variables, build_variable_name, read_variables
from fastapi_logto.errors import SettingsError
from fastapi_logto.redaction import quote
from fastapi_logto.setting_errors import explain_arguments, explain_variables
from fastapi_logto.urls import check_url, is_fetchable, normalise_endpoint

Algorithm: TypeAlias = Literal[
    "ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA", "Ed25519"
]
"""The supported signature algorithms: asymmetric ones only (RFC 8725 section 3.1)."""

LONGEST_FETCH_SECONDS: Final = 60
"""The longest time limit of one whole response."""

TokenType: TypeAlias = Literal["at+jwt", "JWT", "absent"]
"""Accepted values of the `typ` header; `absent` accepts a header without it."""

_logger: Final = logging.getLogger("fastapi_logto")


def _trim(url: str) -> str:
    return url.rstrip("/")


def _one_or_several(value: object) -> object:
    if isinstance(value, BrokenList):
        is_json = value.startswith("[")
        expected = 'a JSON list such as ["a", "b"]' if is_json else "at least one entry, none of them empty"
        raise ValueError(f"expected {expected}")  # noqa: TRY004 - pydantic collects these
    return (value,) if isinstance(value, str) else value


def _has_entries(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values or not all(value.strip() for value in values):
        raise ValueError("expected at least one entry, none of them empty")
    return values


def _refuse_organizations(values: tuple[str, ...]) -> tuple[str, ...]:
    if any(
        value.startswith("urn:logto:organization:") or value == "urn:logto:resource:organizations" for value in values
    ):
        raise ValueError(
            "expected the resource indicator of the API; organization tokens are accepted by routes with "
            "auth.require_organization(...)"
        )
    return values


_Endpoint: TypeAlias = Annotated[str, AfterValidator(normalise_endpoint)]
_Url: TypeAlias = Annotated[str, AfterValidator(check_url)]
_Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_one_or_several), AfterValidator(_has_entries)]


def check_audiences(audiences: Collection[object]) -> tuple[str, ...]:
    """Return the resource indicators as a tuple, or raise `SettingsError` if they can't be accepted for an application.

    The indicator of organization tokens is rejected, as are an empty one and an empty collection.
    """
    values = tuple(audiences)
    texts = tuple(value for value in values if isinstance(value, str))
    if len(texts) != len(values):
        raise SettingsError(f"audience: expected strings as separate arguments; found {quote(values)}")
    try:
        return _refuse_organizations(_has_entries(tuple(map(str.__str__, texts))))
    except ValueError as error:
        raise SettingsError(f"audience: {error}; found {quote(values)}") from None


class SettingsOptions(TypedDict, total=False):
    """The optional keyword arguments that `LogtoSettings` and `LogtoAuth` share. `LogtoSettings` describes each."""

    issuers: str | Collection[str]
    fetch_endpoint: str | None
    allow_http: bool
    allowed_jwks_origins: str | Collection[str]
    algorithms: Algorithm | Collection[Algorithm]
    token_types: TokenType | Collection[TokenType]
    required_claims: str | Collection[str]
    leeway_seconds: float
    max_token_bytes: int
    keys_ttl_seconds: float
    keys_cooldown_seconds: float
    keys_max_stale_seconds: float
    fetch_timeout_seconds: float
    token_cache_size: int
    token_cache_bytes: int
    max_waiting_verifications: int
    accept_organization_tokens: bool
    accept_subprotocol_tokens: bool
    swagger_client_id: str | None
    public_url: str | None
    documentation_url: str | None


class SettingsArguments(SettingsOptions, total=False):
    """All keyword arguments of `LogtoSettings`."""

    endpoint: str
    audience: str | Collection[str]


class LogtoSettings(BaseModel):
    """The settings of one Logto tenant and of the API that it protects.

    Pass every field as an argument, or read all of them from environment variables (`LOGTO_<FIELD>`) with
    `from_environment`. The two are never mixed: a variable for one tenant must not affect the settings of another.

    Raises:
        SettingsError: A field is missing, invalid or unknown. One error lists all of them.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    # These two come first: they decide whether the others may use plain http.
    allow_http: bool = Field(
        default=False,
        description="Allow plain http for hosts other than loopback: to fetch keys, and in `public_url`.",
        examples=["true"],
    )
    fetch_endpoint: _Endpoint | None = Field(
        default=None,
        description="Base URL for fetching, if it differs from `endpoint`, e.g. inside a container network.",
        examples=["https://logto.internal"],
    )
    endpoint: _Endpoint = Field(
        description="URL of the tenant. A trailing slash or `/oidc` is ignored.",
        examples=["https://tenant-id.logto.app"],
    )
    audience: Annotated[_Texts, AfterValidator(_refuse_organizations)] = Field(
        description=(
            "Resource indicators of the API in Logto; one or more. They must match exactly: an extra slash makes it a "
            "different resource."
        ),
        examples=["https://api.example.com"],
    )
    issuers: Annotated[tuple[_Url, ...], BeforeValidator(_one_or_several)] = Field(
        default=(),
        description="Additional issuers to accept, such as a custom domain of the same tenant, including `/oidc`.",
        examples=["https://auth.example.com/oidc"],
    )
    allowed_jwks_origins: Annotated[tuple[_Url, ...], BeforeValidator(_one_or_several)] = Field(
        default=(),
        description="Additional origins that may host the key set, besides the origin of the discovery document.",
        examples=["https://keys.example.com"],
    )
    algorithms: Annotated[tuple[Algorithm, ...], BeforeValidator(_one_or_several), AfterValidator(_has_entries)] = (
        Field(
            default=("ES256", "ES384", "ES512", "RS256"),
            description="Accepted signature algorithms. A token header can't add to them.",
            examples=["ES256,ES384,RS256"],
        )
    )
    token_types: Annotated[tuple[TokenType, ...], BeforeValidator(_one_or_several), AfterValidator(_has_entries)] = (
        Field(
            default=("at+jwt",),
            description="Accepted values of the `typ` header. Older versions of Logto also need `JWT`, or `absent` "
            "for none.",
            examples=["at+jwt,JWT"],
        )
    )
    required_claims: Annotated[tuple[str, ...], BeforeValidator(_one_or_several)] = Field(
        default=("client_id", "iat", "jti"),
        description="Required claims besides `iss`, `aud`, `sub` and `exp`, which are always required. A value "
        "replaces the default.",
        examples=["client_id,iat,jti"],
    )
    leeway_seconds: float = Field(
        default=10,
        ge=0,
        le=60,
        description="Allowed clock difference for `exp` and `nbf`, in seconds, 0 to 60.",
        examples=["10"],
    )
    max_token_bytes: int = Field(
        default=16 * 1024,
        ge=1024,
        le=128 * 1024,
        description="Maximum length of a token, in bytes.",
        examples=["16384"],
    )
    keys_ttl_seconds: float = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Age at which the key set expires. It is refreshed earlier, at about 80 % of this age.",
        examples=["300"],
    )
    keys_cooldown_seconds: float = Field(
        default=30,
        ge=1,
        le=3600,
        description="Minimum time between two fetches for unknown keys.",
        examples=["30"],
    )
    keys_max_stale_seconds: float = Field(
        default=3600,
        ge=0,
        le=604_800,
        description="How long expired keys may be used while Logto is unreachable; 0 disables this.",
        examples=["3600"],
    )
    fetch_timeout_seconds: float = Field(
        default=5,
        gt=0,
        le=LONGEST_FETCH_SECONDS,
        description="Timeout for fetching one whole document.",
        examples=["5"],
    )
    token_cache_size: int = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="Maximum number of cached verified tokens; 0 disables the cache.",
        examples=["10000"],
    )
    token_cache_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        le=2**40,
        description="Approximate memory limit for cached tokens, in bytes.",
        examples=["67108864"],
    )
    max_waiting_verifications: int = Field(
        default=400,
        ge=1,
        le=100_000,
        description="Maximum number of new tokens that wait to be verified; further ones get 503.",
        examples=["400"],
    )
    accept_organization_tokens: bool = Field(
        default=True,
        description=(
            "Accept organization tokens on routes that require an organization. Such a token names no API, so it is "
            "valid for every API of the tenant."
        ),
        examples=["false"],
    )
    accept_subprotocol_tokens: bool = Field(
        default=False,
        description="Also accept the token of a WebSocket as a subprotocol after `bearer`, for browsers, which can't "
        "set headers.",
        examples=["true"],
    )
    swagger_client_id: str | None = Field(
        default=None,
        min_length=1,
        description="Client id of the single-page application that Swagger UI signs in with.",
        examples=["an application's id"],
    )
    public_url: Annotated[_Url, AfterValidator(_trim)] | None = Field(
        default=None,
        description="Public URL of this API. Error responses then link to its metadata (RFC 9728).",
        examples=["https://api.example.com"],
    )
    documentation_url: _Url | None = Field(
        default=None,
        description="URL of the documentation for client developers, published in the metadata.",
        examples=["https://api.example.com/docs"],
    )

    def __init__(self, **arguments: Unpack[SettingsArguments]) -> None:
        """Validate the arguments. The environment is not read.

        Args:
            **arguments: The fields of this model; `endpoint` and `audience` are required.
        """
        names = tuple(arguments)
        try:
            super().__init__(**arguments)
        except ValidationError as error:
            # A URL may contain a password, and error trackers show what they find in a frame.
            del arguments
            raise SettingsError("\n".join(explain_arguments(error, type(self).model_fields, given=names))) from None

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_stray_booleans(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("expected another value than a boolean")
        return value

    @field_validator("fetch_endpoint", "endpoint", "allowed_jwks_origins", "public_url")
    @classmethod
    def _check_transport(
        cls, value: str | tuple[str, ...] | None, info: ValidationInfo
    ) -> str | tuple[str, ...] | None:
        if info.field_name == "endpoint" and info.data.get("fetch_endpoint") is not None:
            return value  # Only compared with the issuer, never fetched.
        urls = (value,) if isinstance(value, str) else value or ()
        if not info.data.get("allow_http") and not all(map(is_fetchable, urls)):
            danger = "send clients to another issuer" if info.field_name == "public_url" else "replace the keys"
            raise ValueError(
                "expected https, or http on a loopback address only; with plain http, anyone on the network path can "
                f"{danger} (the setting allow_http allows it inside a closed network)"
            )
        return value

    @classmethod
    def from_environment(cls, *, env_file: str | Path | None = None) -> Self:
        """Read the settings from `LOGTO_…` variables: all from the environment, or all from one file.

        Lists are written with commas or as a JSON list. An empty variable counts as not set. The log says which source
        was read (level INFO).

        Args:
            env_file: A `.env` file; by default none is read. It is read only if the environment sets no `LOGTO_…`
                variable that this package knows, and it does not have to exist. Other variables in it are ignored.

        Returns:
            The settings.

        Raises:
            SettingsError: A variable is missing or invalid. The message says whether and why the file was ignored.
        """
        variables = read_known_variables(env_file=env_file)
        if variables.values:
            _logger.info("settings are read from %s", variables.describe_source())
        misspelt = variables.explain_misspelt()
        try:
            # No local variable: a URL may contain a password, and error trackers show what they find in a frame.
            lists = {name: get_origin(field.annotation) is tuple for name, field in cls.model_fields.items()}
            settings = cls.__new__(cls)
            # Not `cls(...)`, whose errors are about arguments.
            super(LogtoSettings, settings).__init__(**variables.read_fields(lists))
        except ValidationError as error:
            lines = [variables.explain_ignored(), *explain_variables(error, cls.model_fields), *misspelt]
            raise SettingsError("\n".join(filter(None, lines))) from None
        for line in misspelt:
            _logger.warning("%s", line)
        return settings

    @property
    def issuer(self) -> str:
        """The issuer of the tenant: its endpoint with `/oidc`."""
        return f"{self.endpoint}/oidc"

    @property
    def accepted_issuers(self) -> frozenset[str]:
        """All issuers that are accepted."""
        return frozenset((self.issuer, *self.issuers))

    @property
    def fetch_base(self) -> str:
        """The base URL for fetching the discovery document."""
        return self.fetch_endpoint or self.endpoint


def read_known_variables(*, env_file: str | Path | None) -> Variables:
    """Return the variables of one tenant without validation: the settings, and the credentials of the command line.

    `env_file` is read only if the environment sets none of them, and it does not have to exist. `SettingsError` if it
    can't be read.
    """
    return read_variables((*map(build_variable_name, LogtoSettings.model_fields), *CREDENTIALS), env_file=env_file)
