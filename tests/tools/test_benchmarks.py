"""The load test reports wrong statuses, requests without a response, and memory that grows."""

import json
from dataclasses import replace

import pytest

from benchmarks.load import Load, parse_load
from benchmarks.memory import find_growth, summarize_memory
from benchmarks.phases import PHASES, Stream, find_wrong
from benchmarks.report import list_problems
from benchmarks.stress import Row

KNOWN = Stream(name="known tokens", tokens="known")
FORGED = replace(KNOWN, name="forged tokens", allowed=frozenset({401}))


def load(statuses: dict[str, int], *, failed: int = 0) -> Load:
    """Return the parsed output of wrk for these numbers."""
    counts = {"requests": sum(statuses.values()), "refused": 0, "failed": failed, "statuses": statuses}
    line = json.dumps({**counts, "duration": 2_000_000, "p50": 900, "p99": 1500, "max": 2000})
    return parse_load(f"Running 2s test\n\n{line}\n", cpu=1000.0)


def test_statuses_that_are_allowed_are_not_reported() -> None:
    assert find_wrong(KNOWN, load({"200": 100})) == []
    assert find_wrong(replace(KNOWN, allowed=frozenset({200, 503})), load({"200": 99, "503": 1})) == []


@pytest.mark.parametrize(
    ("stream", "statuses", "wrong"),
    [
        (KNOWN, {"200": 99, "500": 1}, "known tokens: expected 200, found 500 1 times"),
        (FORGED, {"401": 99, "200": 1}, "forged tokens: expected 401, found 200 1 times"),
        (FORGED, {"503": 7}, "forged tokens: expected 401, found 503 7 times"),
    ],
)
def test_a_single_wrong_status_is_reported(stream: Stream, statuses: dict[str, int], wrong: str) -> None:
    found = load(statuses)
    row = Row("phase", stream)
    row.add(found, load({"200": 100}))

    assert find_wrong(stream, found) == [wrong]
    assert row.summarize()["wrong"] == found.requests - statuses.get(str(next(iter(stream.allowed))), 0)


def test_requests_without_a_response_are_reported() -> None:
    assert find_wrong(KNOWN, load({"200": 5}, failed=2)) == [
        "known tokens: expected a response to each request, found none to 2"
    ]
    assert find_wrong(KNOWN, load({})) == ["known tokens: expected responses, found none"]


def test_no_phase_allows_an_error_of_the_server_or_a_valid_response_to_an_invalid_token() -> None:
    streams = [stream for phase in PHASES for stream in phase.streams]

    assert {status for stream in streams for status in stream.allowed} == {200, 401, 503}
    for stream in streams:
        is_invalid = str(stream.tokens).startswith(("forged", "unknown", "revoked", "opaque, inactive"))
        assert (200 in stream.allowed) <= (not is_invalid), stream.name


def test_memory_that_grows_in_one_worker_is_reported() -> None:
    # Both grow in the first fifth, while caches fill; the second one does not stop.
    samples = [[80.0 + min(second, 20), 80.0 + second / 5] for second in range(100)]

    assert find_growth(summarize_memory(samples)) == [
        "memory of worker 2: expected at most 1.05 times 85.9 MiB, found 97.9 MiB"
    ]


def test_memory_is_not_judged_by_too_few_samples() -> None:
    with pytest.raises(RuntimeError, match="expected at least five samples"):
        summarize_memory([[80.0]] * 4)


def test_what_the_load_test_and_the_soak_found_fails_the_command() -> None:
    soak = {"wrong_count": 2, "wrong": ["revoked: 200", "valid: 500"]}

    assert list_problems("load", {"problems": ["known tokens: …"]}) == ["load: known tokens: …"]
    assert list_problems("soak", soak) == ["soak: 2 responses that the policy does not allow, such as revoked: 200"]
    assert list_problems("load", {"problems": []}) == list_problems("soak", {"wrong_count": 0}) == []
    assert list_problems("known", {"unprotected": {}}) == []
