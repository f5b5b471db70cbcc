"""The directory of a local issuer, and the entries that it refuses."""

import dataclasses
from collections.abc import Callable
from typing import cast

import pytest

from fastapi_logto.testing import Application, Directory, LocalIssuer, Machine, Organization, Resource, User
from fastapi_logto.testing.issuer.lookup import find_client, find_resource, find_user
from fastapi_logto.testing.redirects import accepts_redirect

API = "https://api.example.test"


def test_the_example_has_users_of_every_degree() -> None:
    directory = Directory.example("urn:api")
    assert [(user.username, dict(user.scopes)) for user in directory.users] == [
        ("alice", {"urn:api": ("read:user", "write:user")}),
        ("bob", {"urn:api": ("read:user",)}),
        ("carol", {}),
    ]
    assert [(machine.client_id, dict(machine.scopes)) for machine in directory.machines] == [
        ("local-machine", {"https://default.logto.app/api": ("all",), "urn:api": ("read:user", "write:user")}),
        ("local-machine-without-roles", {}),
    ]
    assert [(resource.indicator, list(resource.scopes)) for resource in directory.resources] == [
        ("urn:api", ["read:user", "write:user"])
    ]
    assert [application.client_id for application in directory.applications] == ["local-spa"]


def test_a_secret_is_in_no_repr() -> None:
    assert "-secret" not in repr(Directory.example())


def test_entries_are_found_by_name() -> None:
    directory = Directory.example()
    bob, spa = find_user(directory, "bob"), find_client(directory, "local-spa")
    machine, resource = find_client(directory, "local-machine"), find_resource(directory, API)
    assert (bob, spa, machine, resource) == (
        directory.users[1],
        directory.applications[0],
        directory.machines[0],
        directory.resources[0],
    )


def test_unknown_entries_are_not_found() -> None:
    directory = Directory.example()
    assert find_user(directory, "bob000000001") is None
    assert find_client(directory, "Local-Spa") is None
    assert find_resource(directory, API + "/") is None


def test_nothing_in_a_directory_can_be_changed() -> None:
    scopes = {"read:user": "Read"}
    resource = Resource(indicator=API, scopes=scopes)
    scopes["admin"] = "Everything"
    assert dict(resource.scopes) == {"read:user": "Read"}
    with pytest.raises(TypeError):
        cast("dict[str, str]", resource.scopes)["admin"] = "Everything"
    held = ["read:user"]
    user = User(id="u", username="u", name="U", scopes={API: held})
    held.append("admin")
    assert dict(user.scopes) == {API: ("read:user",)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        user.id = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def user(*, user_id: str = "u", username: str = "n") -> User:
    return User(id=user_id, username=username, name="N")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Directory(resources=[Resource(indicator="a"), Resource(indicator="a")]),
            "resource indicator: expected unique values, found 'a' 2 times",
        ),
        (lambda: Directory(users=[user(), user(username="m")]), "user id: expected unique values, found 'u' 2 times"),
        (lambda: Directory(users=[user(), user(user_id="v")]), "username: expected unique values, found 'n' 2 times"),
        (
            lambda: Directory(
                machines=[Machine(client_id="c", client_secret="x")], applications=[Application(client_id="c")]
            ),
            "client id: expected unique values, found 'c' 2 times",
        ),
        (
            lambda: Directory(users=[User(id="u", username="n", name="N", scopes={"urn:a": ["s"]})]),
            "scopes: expected a resource of this directory, found 'urn:a'",
        ),
        (
            lambda: Directory(
                resources=[Resource(indicator="urn:a", scopes={"read": ""})],
                machines=[Machine(client_id="c", client_secret="x", scopes={"urn:a": ["writ"]})],
            ),
            "scopes: expected scopes of 'urn:a', found 'writ'",
        ),
    ],
)
def test_a_directory_that_contradicts_itself_is_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost",
        "http://localhost:8000/docs/oauth2-redirect",
        "http://127.0.0.1:1/?a=b&c=[d]~",
        "http://[::1]:8000/x",
        "http://localhost?x",
    ],
)
def test_without_redirect_uris_any_loopback_uri_is_accepted(uri: str) -> None:
    assert accepts_redirect((), uri) is True


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "https://localhost/",
        "http://LOCALHOST/",
        "http://localhost.attacker.test/",
        "http://localhost@attacker.test/",
        "http://attacker.test\\@localhost/",
        "http://localhost\\.attacker.test/",
        "http://localhost:80@attacker.test/",
        "http://127.0.0.1.attacker.test/",
        "http://127.0.0.2/",
        "http://localhost/#fragment",
        "http://localhost/a\\b",
        'http://localhost/"',
        "http://localhost/a b",
        "http://localhost/\r\nX: y",
        "http://localhost/\n",
        "http://localhost/é",
        "//localhost/",
        "javascript:alert(1)//http://localhost/",
    ],
)
def test_without_redirect_uris_nothing_else_is_accepted(uri: str) -> None:
    assert accepts_redirect((), uri) is False


def test_redirect_uris_are_compared_exactly() -> None:
    redirect_uris = ["https://spa.test/cb"]
    assert accepts_redirect(redirect_uris, "https://spa.test/cb") is True
    assert accepts_redirect(redirect_uris, "https://spa.test/cb/") is False
    assert accepts_redirect(redirect_uris, "http://localhost:8000/cb") is False


@pytest.mark.parametrize("uri", ["javascript:x", "https://spa.test/#x", "https://user@spa.test/", "spa.test"])
def test_an_odd_redirect_uri_is_refused_at_once(uri: str) -> None:
    with pytest.raises(ValueError, match=r"redirect_uris: expected http\(s\) URIs without fragment, found"):
        Application(client_id="c", redirect_uris=[uri])


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: User(id="u", username="n", name="N", scopes={"urn:a": "read"}), "scopes"),
        (lambda: Machine(client_id="c", client_secret="x", scopes={"urn:a": "read"}), "scopes"),
        (lambda: Organization(id="o", members={"u": {"urn:a": "read"}}), "scopes"),
        (lambda: Application(client_id="c", redirect_uris="read"), "redirect_uris"),
        (lambda: LocalIssuer(allowed_hosts="read"), "allowed_hosts"),
    ],
)
def test_a_single_string_is_no_collection(build: Callable[[], object], name: str) -> None:
    with pytest.raises(
        TypeError, match=f"{name}: expected a collection of texts, found the string 'read'; pass a list"
    ):
        build()
