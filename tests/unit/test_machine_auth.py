"""The `auth` of an httpx client: the machine's token goes to the API's origin, and nowhere else."""

from collections.abc import AsyncGenerator, Generator
from typing import Final

import httpx
import pytest

from fastapi_logto import SettingsError
from fastapi_logto.client import GrantError, OriginError
from tests.captured import Answer, CapturedServer, serve_captured
from tests.unit.apps import API
from tests.unit.clients import Bench
from tests.unit.test_error_trackers import find_leaks

ORDERS: Final = "https://orders.example.com"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def orders() -> Generator[CapturedServer]:
    with serve_captured() as running:
        yield running


@pytest.fixture
def other() -> Generator[CapturedServer]:
    with serve_captured() as running:
        yield running


class Api(httpx.AsyncBaseTransport):
    """An API that refuses some tokens."""

    def __init__(self, *refused: str, status: int = 401) -> None:
        self.refused = set(refused)
        self.status = status
        self.seen: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request.headers["authorization"].removeprefix("Bearer "))
        return httpx.Response(self.status if self.seen[-1] in self.refused else 200)


async def test_requests_of_ones_own_httpx_client_are_signed(bench: Bench) -> None:
    api = Api()
    auth = bench.client.machine_auth(API, base_url=ORDERS, scopes=["read:user"], organization_id=None)

    async with httpx.AsyncClient(transport=api, auth=auth) as http:
        answers = [await http.get(ORDERS) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(set(api.seen)) == len(bench.provider.asked) == 1


async def test_a_token_that_the_api_refuses_is_replaced_once(bench: Bench) -> None:
    first = (await bench.client.get_token(API)).token
    bench.clock.advance(10)
    api = Api(first)
    async with httpx.AsyncClient(transport=api, auth=bench.client.machine_auth(API, base_url=ORDERS)) as http:
        assert (await http.get(ORDERS)).status_code == 200
        second = (await bench.client.get_token(API)).token
        assert api.seen == [first, second]

        # A new token is not replaced. Otherwise an API that refuses every token would cause a token request each time.
        api.refused.add(second)
        assert (await http.get(ORDERS)).status_code == 401
        bench.clock.advance(10)
        bench.say_token(access_token="third")
        api.refused.add("third")
        assert (await http.get(ORDERS)).status_code == 401
    assert api.seen == [first, second, second, second, "third"]


@pytest.mark.parametrize("status", [200, 400, 402, 403, 500])
async def test_a_request_with_another_response_than_401_is_not_sent_again(bench: Bench, status: int) -> None:
    first = (await bench.client.get_token(API)).token
    bench.clock.advance(60)
    api = Api(first, status=status)
    async with httpx.AsyncClient(transport=api, auth=bench.client.machine_auth(API, base_url=ORDERS)) as http:
        assert (await http.post(ORDERS, json={"item": 1})).status_code == status

    assert api.seen == [first]
    assert len(bench.provider.asked) == 1


async def test_a_body_that_is_used_up_is_not_sent_again(bench: Bench) -> None:
    first = (await bench.client.get_token(API)).token
    bench.clock.advance(60)
    api = Api(first)

    async def chunks() -> AsyncGenerator[bytes]:
        yield b"once"

    async with httpx.AsyncClient(transport=api, auth=bench.client.machine_auth(API, base_url=ORDERS)) as http:
        answer = await http.post(ORDERS, content=chunks())

    assert answer.status_code == 401
    assert api.seen == [first]


def test_a_synchronous_client_gets_a_clear_error(bench: Bench) -> None:
    with (
        httpx.Client(
            transport=httpx.MockTransport(lambda _: httpx.Response(200)),
            auth=bench.client.machine_auth(API, base_url=ORDERS),
        ) as http,
        pytest.raises(RuntimeError, match="AsyncClient"),
    ):
        http.get(ORDERS)


@pytest.mark.parametrize(
    "url",
    [
        ORDERS,
        "/orders?next=https://evil.example.com",
        "//evil.example.com/orders",
        "https://orders.example.com:443/orders",
        "https://ORDERS.example.com/orders",
        "https://user:password@orders.example.com/orders",
    ],
)
async def test_a_request_to_the_origin_is_signed_however_it_is_written(bench: Bench, url: str) -> None:
    api = Api()
    auth = bench.client.machine_auth(API, base_url=f"{ORDERS}/v1/")

    async with httpx.AsyncClient(transport=api, base_url=ORDERS, auth=auth) as http:
        response = await http.get(url)

    assert response.request.url.host == "orders.example.com"
    assert len(api.seen) == 1


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://evil.example.com/page2", "https://evil.example.com"),
        ("http://orders.example.com/orders", "http://orders.example.com"),
        ("http://orders.example.com:443/orders", "http://orders.example.com:443"),
        ("https://orders.example.com:8443/orders", "https://orders.example.com:8443"),
        ("https://orders.example.com./orders", "https://orders.example.com."),
        ("https://orders.example.com.evil.example/", "https://orders.example.com.evil.example"),
        ("https://orders.example.com@evil.example.com/", "https://evil.example.com"),
        ("https://\u043erders.example.com/orders", "https://xn--rders-iye.example.com"),
        ("https://127.0.0.1/orders", "https://127.0.0.1"),
    ],
)
async def test_a_request_to_another_origin_is_an_error_and_is_not_sent(bench: Bench, url: str, found: str) -> None:
    api = Api()

    async with httpx.AsyncClient(transport=api, auth=bench.client.machine_auth(API, base_url=ORDERS)) as http:
        with pytest.raises(OriginError, match=r"^expected a request to https://orders\.example\.com, found ") as caught:
            await http.get(url)

    assert (caught.value.expected, caught.value.found) == (ORDERS, f"'{found}'")
    assert isinstance(caught.value, GrantError)
    assert api.seen == []
    assert bench.provider.asked == []


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("", "expected the base_url of an API"),
        ("orders.example.com", "expected the base_url of an API"),
        ("/v1", "expected the base_url of an API"),
        ("https://", "expected the base_url of an API"),
        ("https:///v1", "expected the base_url of an API"),
        ("ftp://orders.example.com", "expected the base_url of an API"),
        ("wss://orders.example.com", "expected the base_url of an API"),
        ("https://user:hunter2@orders.example.com", "expected the base_url of an API"),
        ("https://orders.example.com:port", "expected the base_url of an API"),
        ("https://orders\ud800.example.com", "expected the base_url of an API"),
        ("http://orders.example.com?key=hunter2", "expected a base_url with https"),
        ("http://orders.localhost", "expected a base_url with https"),
        ("http://localhost.", "expected a base_url with https"),
        ("http://127.0.0.1.example.com", "expected a base_url with https"),
        ("http://10.0.0.1", "expected a base_url with https"),
        ("http://0.0.0.0", "expected a base_url with https"),
        ("http://[::ffff:127.0.0.1]", "expected a base_url with https"),
        ("http://127.1", "expected a base_url with https"),
    ],
    ids=ascii,
)
def test_a_base_url_that_no_token_may_be_sent_to_is_refused(bench: Bench, base_url: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=f"^client.machine_auth: {expected}") as caught:
        bench.client.machine_auth(API, base_url=base_url)
    assert "hunter2" not in str(caught.value)
    assert find_leaks(caught.value, "hunter2") == []


def test_a_url_with_a_password_is_in_no_frame_if_another_argument_is_invalid(bench: Bench) -> None:
    with pytest.raises(ValueError, match="organization_id") as caught:
        bench.client.machine_auth(API, base_url="https://user:hunter2@orders.example.com", organization_id="")

    assert find_leaks(caught.value, "hunter2") == []


@pytest.mark.parametrize(
    "base_url", ["http://localhost:8000", "http://127.0.0.1", "http://127.8.0.1", "http://[::1]:8000"]
)
async def test_plain_http_is_for_loopback(bench: Bench, base_url: str) -> None:
    api = Api()

    async with httpx.AsyncClient(transport=api, auth=bench.client.machine_auth(API, base_url=base_url)) as http:
        await http.get(f"{base_url}/orders")

    assert len(api.seen) == 1


async def test_a_client_that_allows_plain_http_signs_it() -> None:
    bench, api = Bench(allow_http=True), Api()

    async with httpx.AsyncClient(
        transport=api, auth=bench.client.machine_auth(API, base_url="http://orders.internal")
    ) as http:
        await http.get("http://orders.internal/orders")
        with pytest.raises(OriginError):
            await http.get("http://other.internal/orders")

    assert len(api.seen) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_origin_takes_no_token_along(
    bench: Bench, orders: CapturedServer, other: CapturedServer, status: int
) -> None:
    orders.replace("/orders", Answer.redirect(f"{other.endpoint}/orders", status=status))
    orders.replace("/v1", Answer.redirect("/v2", status=status))
    orders.replace("/v2", Answer.json({}))
    other.replace("/orders", Answer.json({}))
    auth = bench.client.machine_auth(API, base_url=orders.endpoint)

    async with httpx.AsyncClient(base_url=orders.endpoint, auth=auth, follow_redirects=True, trust_env=False) as http:
        assert (await http.get("/orders")).status_code == 200
        assert (await http.get("/v1")).status_code == 200

    assert ["authorization" in request.headers for request in orders.requests] == [True] * 3
    assert ["authorization" in request.headers for request in other.requests] == [False]


async def test_a_401_of_another_origin_after_a_redirect_does_not_replace_the_token(
    bench: Bench, orders: CapturedServer, other: CapturedServer
) -> None:
    await bench.client.get_token(API)
    bench.clock.advance(60)
    orders.replace("/orders", Answer.redirect(f"{other.endpoint}/orders"))
    other.replace("/orders", Answer(status=401))
    auth = bench.client.machine_auth(API, base_url=orders.endpoint)

    async with httpx.AsyncClient(base_url=orders.endpoint, auth=auth, follow_redirects=True, trust_env=False) as http:
        assert (await http.get("/orders")).status_code == 401

    assert len(orders.requests) == len(other.requests) == len(bench.provider.asked) == 1
