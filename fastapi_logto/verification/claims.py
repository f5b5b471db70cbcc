"""The claims of a verified access token: the model that handlers get, and its parser.

`TokenClaims` can be created from a verified token only. Otherwise, in a handler that declares `claims: TokenClaims`
without `Depends`, FastAPI would read the claims from the request body.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from traceback import walk_tb
from typing import Any, ClassVar, Final, NoReturn, Self, TypeAlias, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from typing_extensions import TypeVar, override

from fastapi_logto.errors import ClaimError, MalformedTokenError, RefusalError
from fastapi_logto.redaction import quote
from fastapi_logto.strict_json import JsonObject, JsonValue, StrictJsonError, parse_object

ORGANIZATION_AUDIENCE: Final = "urn:logto:organization:"
"""The prefix of the audience of an organization token. The organization id follows."""

ORGANIZATIONS_AUDIENCE: Final = "urn:logto:resource:organizations"
"""The audience of an organization token that was requested with this resource indicator."""

_set: Final = object.__setattr__

_VERIFIED: Final = object()
"""The validation context that marks verified data; models reject any other. Only this module passes it."""

_REGISTERED_CLAIMS: Final = frozenset(
    {
        *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "act", "may_act", "cnf"),
        *("organization_id", "auth_time", "acr", "amr"),
    }
)
"""Claims whose absence has a meaning, so `null` is rejected: it could pass for absence (RFC 7519, 8693, 9068, 7800).

Profile claims such as `email` are registered too, but a tenant's script may set them to `null`.
"""

_MAX_ACTORS: Final = 8

NumericDate: TypeAlias = StrictInt | StrictFloat
"""Seconds since the epoch; never a boolean or a string (RFC 7519 section 2)."""


class _FrozenDict(dict[str, Any]):
    """An immutable JSON object, so that one request can't change what the next one sees."""

    def __new__(cls, members: Mapping[str, Any] | None = None) -> Self:
        """Fill it here and not in `__init__`, which may be called again."""
        made = super().__new__(cls)
        dict[str, Any].update(made, members or {})
        return made

    def __init__(self, members: Mapping[str, Any] | None = None) -> None:
        """Do nothing: `__new__` has set the members."""

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError("the claims of a verified token can't be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType] - refuses every change

    def __copy__(self) -> Self:
        """Return itself, as it can't be changed."""
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        """Return itself; its values can't be changed either."""
        return self

    @override
    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)


def _freeze(value: JsonValue) -> Any:  # noqa: ANN401 - a tree of any JSON
    if isinstance(value, dict):
        return _FrozenDict({name: _freeze(member) for name, member in value.items()})
    if isinstance(value, list):
        return tuple(_freeze(member) for member in value)
    return value


class _VerifiedModel(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _only_from_a_verified_token(
        cls, data: object, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        if isinstance(data, cls):
            # An existing instance is validated again if a route returns its claims.
            return data
        if info.context is not _VERIFIED:
            raise ValueError(
                f"{cls.__name__} comes only from a verified token: declare it with Depends(auth) or "
                "Depends(require_scopes(...)), or build it in a test with fastapi_logto.testing"
            )
        made = handler(data)
        _set(made, "__pydantic_extra__", _FrozenDict(made.__pydantic_extra__))
        return made

    @property
    @override
    def model_fields_set(self) -> set[str]:
        """The fields that the token has, as a new set."""
        return set(super().model_fields_set)


class Actor(_VerifiedModel):
    """The party that acts on behalf of the subject (RFC 8693 section 4.1).

    Attributes:
        sub: The subject of the acting party.
        act: The previous actor, if several acted in a chain.
    """

    sub: StrictStr = Field(min_length=1, pattern=r"\S")
    act: "Actor | None" = None


class TokenClaims(_VerifiedModel):
    """The claims of an access token whose signature, issuer, audience and times are verified.

    Claims keep the names that they have in the token. Other claims, such as a tenant's custom claims, are in
    `model_extra` and can be read as attributes. Instances are immutable.

    Attributes:
        iss: Issuer, one of the accepted ones.
        sub: Subject: the user id, or the client id of a machine.
        aud: Audience, as in the token; see `audiences`. Empty only for opaque tokens.
        exp: Expiry, seconds since the epoch.
        iat: Time of issue, seconds since the epoch.
        nbf: Not valid before, seconds since the epoch.
        jti: The id of the token.
        client_id: The application to which the token was issued.
        scope: Scopes, separated by spaces; empty or absent if there are none; see `scopes`.
        organization_id: The Logto organization that the token is for, from the claim of this name or from the audience
            of an organization token.
        act: The party that acts on behalf of the subject; see `Actor`.

    References:
        RFC 9068 section 2.2; RFC 7519 section 4.1.
    """

    iss: StrictStr
    sub: StrictStr = Field(min_length=1, pattern=r"\S")
    aud: StrictStr | tuple[StrictStr, ...]
    exp: NumericDate
    iat: NumericDate | None = None
    nbf: NumericDate | None = None
    jti: StrictStr | None = None
    client_id: StrictStr | None = None
    scope: StrictStr | None = None
    organization_id: StrictStr | None = None
    act: Actor | None = None

    @property
    def user_id(self) -> str:
        """The subject: the Logto user id, or the client id of a machine (see `is_machine`)."""
        return self.sub

    @property
    def scopes(self) -> frozenset[str]:
        """The granted scopes; empty if there are none."""
        # Only spaces separate scopes: a scope may contain any other character, also a non-breaking space.
        return frozenset(filter(None, (self.scope or "").split(" ")))

    @property
    def audiences(self) -> frozenset[str]:
        """The audiences as a set."""
        return frozenset((self.aud,) if isinstance(self.aud, str) else self.aud)

    @property
    def expires_at(self) -> datetime | None:
        """When the token expires, in UTC; `None` after the year 9999."""
        return _as_datetime(self.exp)

    @property
    def issued_at(self) -> datetime | None:
        """When the token was issued, in UTC; `None` if unknown or outside the years 1 to 9999."""
        return None if self.iat is None else _as_datetime(self.iat)

    @property
    def is_organization_token(self) -> bool:
        """Whether the audience is an organization, not an API. The scopes are then permissions in the organization."""
        return isinstance(self.aud, str) and (
            self.aud == ORGANIZATIONS_AUDIENCE or self.aud.startswith(ORGANIZATION_AUDIENCE)
        )

    @property
    def is_machine(self) -> bool:
        """Whether the caller is a machine: the subject is the client itself."""
        return self.sub == self.client_id

    @override
    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # Claims are personal data: they should not appear in a log line with a handler's arguments.
        return [("sub", self.sub), ("client_id", self.client_id)]


ClaimsT = TypeVar("ClaimsT", bound=TokenClaims, default=TokenClaims)


def _as_datetime(seconds: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def check_claims_model(model: type[ClaimsT] | None) -> type[ClaimsT]:
    """Return the class of the claims, `TokenClaims` by default; `TypeError` if it is not a subclass of it."""
    given = cast("object", TokenClaims if model is None else model)
    if not isinstance(given, type) or not issubclass(given, TokenClaims):
        found = given.__name__ if isinstance(given, type) else f"a {type(given).__name__}"
        raise TypeError(f"claims_model: expected a subclass of TokenClaims, found {found}; derive it from that")
    return cast("type[ClaimsT]", given)


def parse_claims(payload: bytes, *, model: type[ClaimsT], required: Collection[str]) -> ClaimsT:
    """Return the claims in a payload whose signature was verified; `required` adds to the model's required claims.

    Issuer, audience and times are not checked here, only their types; see `check_claims`.
    """
    try:
        return _build(_parse_members(payload, required), model)
    except RefusalError as error:
        # Error trackers show what they find in a frame: here the claims, which are personal data.
        raise error.with_traceback(None) from None
    finally:
        del payload


def build_claims(members: JsonObject, *, model: type[ClaimsT]) -> ClaimsT:
    """Return claims made of the members of a verified payload, frozen. Only their types are checked.

    `ClaimError` if a claim is missing or of the wrong type, or if the application's model rejects it.
    """
    try:
        return _build(members, model)
    except ClaimError as error:
        # As in `parse_claims`.
        raise error.with_traceback(None) from None
    finally:
        del members


def _parse_members(payload: bytes, required: Collection[str]) -> JsonObject:
    try:
        members = parse_object(payload)
    except StrictJsonError as error:
        raise MalformedTokenError(found=f"payload: {error}") from None
    if members.get("aud") == []:
        raise ClaimError(claim="aud", expected="an audience", found="none")
    for name in required:
        if members.get(name) in (None, ""):
            raise ClaimError(
                f"The token has no claim {name}, which access tokens of Logto have; send the access token",
                claim=name,
                expected="a value",
                found="nothing",
            )
    return members


def _build(members: JsonObject, model: type[ClaimsT]) -> ClaimsT:
    if model is TokenClaims:
        plain = _build_plain(members)
        if plain is not None:
            return cast("ClaimsT", plain)
    _check_registered(members)
    if "cnf" in members:
        # This package can't check the proof of possession. Without it, such a token is not a valid bearer token.
        raise ClaimError(
            "The token is bound to a key of its client (cnf), which this API can't verify; request a bearer token",
            claim="cnf",
            expected="a bearer token",
            found="a sender-constrained token (RFC 7800)",
        )
    frozen = _freeze(_with_organization(members))
    try:
        made = model.model_validate(frozen, context=_VERIFIED)
        # Each request gets a copy: a model that can't be copied is found out here, where it is a refusal.
        return made if model is TokenClaims else made.model_copy(deep=True)
    except ValidationError as error:
        problem = error.errors()[0]
        if not problem["loc"]:
            # Its input are all claims of the token, which must not be in a log.
            raise ClaimError(expected=f"claims that {model.__name__} accepts", found=problem["type"]) from None
        claim = str(problem["loc"][0])
        if claim not in model.model_fields:
            claim = quote(claim)  # unknown claims that the model forbids: their names come from the token
        found = "nothing" if problem["type"] == "missing" else quote(problem["input"])
        raise ClaimError(claim=claim, expected=problem["type"], found=found) from None
    except Exception as error:  # noqa: BLE001 - validators of the application's model: a 401, never a 500
        raise ClaimError(
            expected=f"claims that {model.__name__} accepts", found=f"{type(error).__name__} in {_find_origin(error)}"
        ) from None


_TEXT_CLAIMS: Final = frozenset({"iss", "sub", "aud", "jti", "client_id", "scope", "organization_id"})
_TIME_CLAIMS: Final = frozenset({"exp", "iat", "nbf"})
_PLAIN_EXTRA: Final = frozenset({str, int, float, bool, type(None)})
_REQUIRED: Final = frozenset({"iss", "sub", "aud", "exp"})
_NO_VALUES: Final[Mapping[str, None]] = dict.fromkeys(TokenClaims.model_fields)
NO_EXTRA: Final[Mapping[str, Any]] = _FrozenDict()


def _build_plain(members: JsonObject) -> TokenClaims | None:
    """Return what the model makes of the usual claims of a token, in a fifth of the time; `None` for any others."""
    values: dict[str, Any] = {**_NO_VALUES}
    extra: dict[str, Any] = {}
    for name, value in members.items():
        kind = type(value)
        is_field = name in _TEXT_CLAIMS if kind is str else name in _TIME_CLAIMS and (kind is int or kind is float)
        if is_field:
            values[name] = value
        elif kind in _PLAIN_EXTRA and name not in _REGISTERED_CLAIMS:
            extra[name] = value
        else:
            return None
    if not members.keys() >= _REQUIRED or values["aud"].startswith(ORGANIZATION_AUDIENCE):
        return None
    if not values["sub"].strip():
        return None
    return make_claims(
        TokenClaims, values, names=members.keys() - extra.keys(), extra=_FrozenDict(extra) if extra else NO_EXTRA
    )


def make_claims(model: type[ClaimsT], values: dict[str, Any], *, names: set[str], extra: Mapping[str, Any]) -> ClaimsT:
    """Return an instance of verified values without validation; `names` are the fields that the token has."""
    claims = object.__new__(model)
    _set(claims, "__dict__", values)
    _set(claims, "__pydantic_fields_set__", names | extra.keys() if extra else names)
    _set(claims, "__pydantic_extra__", extra)
    _set(claims, "__pydantic_private__", None)
    return claims


def _check_registered(members: JsonObject) -> None:
    for name in _REGISTERED_CLAIMS & members.keys():
        if members[name] is None:
            raise ClaimError(claim=name, expected="a value", found="null")
    actor: JsonValue = members.get("act")
    for _ in range(_MAX_ACTORS):
        if not isinstance(actor, dict) or "act" not in actor:
            return
        actor = actor["act"]
        if actor is None:
            raise ClaimError(claim="act", expected="an actor of each actor", found="null")
    # Pydantic recurses with some nine KiB of stack for each, and threads may have little.
    raise ClaimError(claim="act", expected=f"at most {_MAX_ACTORS} actors", found="more")


def _find_origin(error: Exception) -> str:
    """Return the name of the validator that raised an error: the first frame outside this package and Pydantic."""
    for frame, _ in walk_tb(error.__traceback__):
        if not str(frame.f_globals.get("__name__")).startswith(("fastapi_logto.", "pydantic.")):
            return frame.f_code.co_qualname
    return "a validator"


def _with_organization(members: JsonObject) -> JsonObject:
    audience = members.get("aud")
    if not isinstance(audience, str) or not audience.startswith(ORGANIZATION_AUDIENCE):
        return members
    organization_id = audience.removeprefix(ORGANIZATION_AUDIENCE)
    # A tenant's script can set the claim but not the audience. If they differ, the organization is ambiguous.
    if members.get("organization_id", organization_id) != organization_id:
        raise ClaimError(
            claim="organization_id",
            expected="the organization of the audience",
            found=quote(members["organization_id"]),
        )
    return {**members, "organization_id": organization_id}
