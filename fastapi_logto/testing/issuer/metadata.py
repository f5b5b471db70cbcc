"""The discovery document of a local issuer, and its list of users and scopes."""

from collections.abc import Collection, Mapping

from fastapi_logto.testing.directory import ORGANIZATIONS, Directory
from fastapi_logto.testing.issuer.authorization import IDENTITY_SCOPES
from fastapi_logto.testing.issuer.lookup import list_permissions
from fastapi_logto.testing.signing import JsonValue


def build_metadata(
    *, issuer: str, base_url: str, algorithms: Collection[str], accepts_dynamic_apps: bool
) -> Mapping[str, JsonValue]:
    """Return the document with Logto's members in Logto's order, without those that are not served.

    `base_url` is the scheme and host of the request. Like Logto, it is used for all URLs except the issuer, which is
    how the internal name of a container gets into `jwks_uri`.
    """
    signing = {"RS256": ("PS256", "RS256")}
    return {
        "authorization_endpoint": f"{base_url}/oidc/auth",
        "claims_parameter_supported": False,
        "claims_supported": ["sub", "name", "username", "iss"],
        "code_challenge_methods_supported": ["S256"],
        "end_session_endpoint": f"{base_url}/oidc/session/end",
        "grant_types_supported": [
            "authorization_code",
            "refresh_token",
            "client_credentials",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ],
        "issuer": issuer,
        "jwks_uri": f"{base_url}/oidc/jwks",
        "authorization_response_iss_parameter_supported": True,
        "response_modes_supported": ["query"],
        "response_types_supported": ["code"],
        "scopes_supported": list(IDENTITY_SCOPES),
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "token_endpoint": f"{base_url}/oidc/token",
        "id_token_signing_alg_values_supported": [
            name for algorithm in sorted(algorithms, reverse=True) for name in signing.get(algorithm, (algorithm,))
        ],
        "request_uri_parameter_supported": False,
        "userinfo_endpoint": f"{base_url}/oidc/me",
        "introspection_endpoint": f"{base_url}/oidc/token/introspection",
        "revocation_endpoint": f"{base_url}/oidc/token/revocation",
        "claim_types_supported": ["normal"],
        **({"client_id_metadata_document_supported": True} if accepts_dynamic_apps else {}),
    }


def build_listing(directory: Directory) -> Mapping[str, JsonValue]:
    """Return the usernames, and the scopes by resource indicator, for `fastapi-logto token`; nothing that is secret."""
    scopes: dict[str, JsonValue] = {resource.indicator: list(resource.scopes) for resource in directory.resources}
    permissions = list_permissions(directory)
    return {
        "users": [user.username for user in directory.users if not user.is_suspended],
        "scopes": scopes | {ORGANIZATIONS: permissions},
    }
