"""The attack suite can fail: each class reports a verifier, a document or an expectation that is wrong."""

import asyncio
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest
from typing_extensions import Unpack

from fastapi_logto import LogtoAuth
from fastapi_logto.settings import SettingsArguments
from tests.attack.comparison import Comparison, Difference
from tests.attack.composition import run_composition
from tests.attack.differences import DIFFERENCES
from tests.attack.differential import run_differential
from tests.attack.documents import run_key_sets
from tests.attack.generated_sets import Pool, generate_sets
from tests.attack.key_set_changes import CHANGES
from tests.attack.key_set_differences import KEY_SET_DIFFERENCES
from tests.attack.key_set_differential import FEWEST_KEY_SETS, build_default, run_key_set_differential
from tests.attack.key_sets import KEY_SET_ROWS
from tests.attack.mutations import Mutant
from tests.attack.nodes import OTHER_API
from tests.attack.oracle import CALLERS, Caller, Rule, judge, judge_all
from tests.attack.peers import (
    ALGORITHMS,
    GUIDE,
    JOSE,
    MCP_AUTH,
    PYJWT,
    PeerMissingError,
    Verdict,
    find_versions,
    run_node,
)
from tests.attack.provider import Document, Provider, build_auth
from tests.attack.report import Tally, print_report
from tests.attack.runs import run_classes
from tests.attack.vectors import run_token_rows
from tests.markdown import build_table, replace_marked
from tests.vectors.forge import API, ISSUER_URL, Forge
from tests.vectors.payloads import PAYLOAD_ROWS
from tests.vectors.rows import EXPIRED, PayloadRow, TokenRow
from tests.vectors.tokens import TOKEN_ROWS

FORGE: Final = Forge.create()
SMALL_SHARE: Final = 0.05
# Among this many mutants, each change that a weak verifier overlooks occurs.
FAIR_SHARE: Final = 0.1
KEY_SET_STEP: Final = 10


@pytest.fixture(autouse=True)
def loop_guard() -> None:
    """Disable the guard: the suite waits for its Node.js process on the loop, which serves nothing else."""


@pytest.fixture
def node() -> None:
    try:
        find_versions()
    except PeerMissingError as error:
        pytest.skip(str(error))


def compare(*, share: float = SMALL_SHARE, **options: Any) -> Tally:
    tally = Tally(name="differential")
    asyncio.run(run_differential(tally, FORGE, share=share, **options))
    return tally


def compare_key_sets(**options: Any) -> Tally:
    tally = Tally(name="key sets")
    asyncio.run(run_key_set_differential(tally, FORGE, step=KEY_SET_STEP, **options))
    return tally


def compose(**options: Any) -> Tally:
    tally = Tally(name="composition")
    asyncio.run(run_composition(tally, FORGE, only={"auth", "other", "require_scopes"}, **options))
    return tally


def build_weak_auth(**changes: Unpack[SettingsArguments]) -> LogtoAuth:
    changes["algorithms"] = ALGORITHMS
    return build_auth(Provider(FORGE.jwks()), changes=changes)


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (SettingsArguments(audience=[API, f"{API}/"]), "aud='https://api.example.test/'"),
        (SettingsArguments(required_claims=()), "claim (jti)"),
        (SettingsArguments(token_types=["at+jwt", "JWT"]), "header (typ='JWT')"),
        (SettingsArguments(leeway_seconds=60), "time (exp="),
    ],
    ids=["audience", "required claims", "type", "leeway"],
)
def test_a_verifier_that_skips_a_check_differs_from_its_peers(changes: SettingsArguments, found: str) -> None:
    failures = compare(share=FAIR_SHARE, auth=build_weak_auth(**changes)).failures

    assert [line for line in failures if found in line and "we accept and" in line]


@pytest.mark.usefixtures("node")
def test_a_verifier_that_refuses_too_much_differs_from_its_peers() -> None:
    failures = compare(auth=build_weak_auth(audience="https://another.example.test")).failures

    assert (
        "mutant 0: good (): we refuse and PyJWT and jose and Logto's guide and mcp-auth accept, which no row explains"
        in failures
    )


@pytest.mark.usefixtures("node")
@pytest.mark.parametrize("row", ["duplicate members", "issued within a minute ahead", "a lone surrogate"])
def test_a_difference_without_its_row_is_a_failure(row: str) -> None:
    failures = compare(differences=[one for one in DIFFERENCES if one.id != row]).failures

    assert len(failures) > len(compare().failures)


@pytest.mark.parametrize("rows", [DIFFERENCES, KEY_SET_DIFFERENCES], ids=["tokens", "key sets"])
def test_each_explanation_says_why_and_where_that_is_written(rows: Sequence[Difference[Any]]) -> None:
    assert [row.id for row in rows if not (row.why and row.reference and row.peers)] == []
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.usefixtures("node")
def test_the_verifiers_for_node_read_the_token_and_the_key_set() -> None:
    with run_node(json.dumps(FORGE.jwks())) as process:
        process.start([FORGE.good(), FORGE.with_header(typ="JWT"), f"{FORGE.good()[:-4]}AAAA"])
        verdicts = process.read(3)
        process.use_key_set('{"keys":[]}')
        process.start([FORGE.good()])
        (without_keys,) = process.read(1)

    assert [{name for name, verdict in one.items() if verdict.accepts} for one in verdicts] == [
        {JOSE, GUIDE, MCP_AUTH},
        {GUIDE, MCP_AUTH},
        set(),
    ]
    assert {verdict.accepts for verdict in without_keys.values()} == {False}


@pytest.mark.usefixtures("node")
def test_the_page_names_the_versions_of_the_verifiers() -> None:
    assert {PYJWT, "Node.js", "jose", "mcp-auth"} <= compare().versions.keys()


def test_the_table_counts_the_cases_in_which_a_peer_differs() -> None:
    def is_odd(facts: str) -> bool:
        return facts == "odd"

    row = Difference(id="a row", peers=frozenset({PYJWT, JOSE}), fits=is_odd, why="why", reference="RFC 1")
    comparison, tally = Comparison([row]), Tally(name="comparison")
    peers = {PYJWT: Verdict(accepts=True), JOSE: Verdict(accepts=False)}

    problems = [
        comparison.judge(facts, name=facts, ours=Verdict(accepts=False), peers=peers)
        for facts in ("odd", "odd", "even")
    ]
    comparison.fail_idle(tally)

    assert problems == [None, None, "even: we refuse and PyJWT accept, which no row explains"]
    assert "| a row | refuse | jose 0, PyJWT 2 | why | RFC 1 |" in comparison.build_table()
    assert tally.failures == ["the row 'a row' explains nothing of jose; correct it"]


def test_an_exception_of_ours_is_a_failure_although_every_verifier_refuses() -> None:
    ours, peers = Verdict(accepts=False, surprise="TypeError"), {PYJWT: Verdict(accepts=False)}

    assert (
        Comparison[str]([]).judge("facts", name="a token", ours=ours, peers=peers) == "a token: ours raised TypeError"
    )


@pytest.mark.usefixtures("node")
def test_a_key_set_difference_without_its_row_is_a_failure() -> None:
    rows = [row for row in KEY_SET_DIFFERENCES if row.id != "an entry that is not an object"]

    assert compare_key_sets().failures == []
    assert [line for line in compare_key_sets(differences=rows).failures if "which no row explains" in line]


@pytest.mark.usefixtures("node")
def test_a_verifier_that_accepts_other_algorithms_differs_for_key_sets() -> None:
    def accept_more(provider: Provider) -> LogtoAuth:
        return build_auth(provider, changes=SettingsArguments(algorithms=[*ALGORITHMS, "PS256"]))

    failures = compare_key_sets(build=accept_more).failures

    assert [line for line in failures if "valid, PS256" in line and "we accept and PyJWT and jose refuse" in line]


@pytest.mark.usefixtures("node")
def test_a_forged_token_that_is_accepted_is_a_failure() -> None:
    pool = Pool.create(FORGE)

    def trust_strangers(provider: Provider) -> LogtoAuth:
        keys = [stranger.publish() | {"kid": key.kid} for key in pool.keys for stranger in pool.strangers]
        provider.documents[f"{ISSUER_URL}/jwks"] = Document.of({"keys": keys})
        return build_default(provider)

    failures = compare_key_sets(build=trust_strangers).failures

    assert [line for line in failures if line.endswith("a forged token is accepted")]


def test_there_are_hundreds_of_different_key_sets_and_each_has_tokens() -> None:
    pool = Pool.create(FORGE)
    key_sets = list(generate_sets(pool))

    assert len({key_set.text for key_set in key_sets}) >= FEWEST_KEY_SETS
    assert len({key_set.id for key_set in key_sets}) == len(key_sets)
    assert {entry.change for key_set in key_sets for entry in key_set.entries} >= CHANGES.keys()


def test_a_peer_that_is_missing_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    (tally,) = asyncio.run(run_classes({"differential": run_differential}))

    assert tally.failures == ["node or its packages are missing; install Node.js 20 and run make attack"]
    assert print_report([tally], out=io.StringIO()) == 1


def test_an_oracle_with_a_wrong_rule_is_reported() -> None:
    def admit_without_scope(rules: Sequence[Rule], caller: Caller) -> int:
        return judge_all([replace(rule, scopes=frozenset()) for rule in rules], caller)

    assert compose().failures == []
    assert "user without scopes at route: require_scopes + auth: expected 200, found 403, raised None" in (
        compose(judge=admit_without_scope).failures
    )


def test_a_scheme_that_accepts_another_audience_is_reported() -> None:
    auth = build_weak_auth(audience=[API, OTHER_API])

    assert "user of the other API at route: auth + auth: expected 401, found 200, raised None" in (
        compose(auth=auth).failures
    )


def test_the_oracle_returns_what_the_documentation_says() -> None:
    verdicts = {caller.id: judge(Rule(organization="named", scopes=frozenset({"read"})), caller) for caller in CALLERS}

    assert verdicts == {
        "no token": 401,
        "forged token": 401,
        "user": 403,
        "user without scopes": 403,
        "user with one scope": 403,
        "machine": 403,
        "machine in the organization": 200,
        "member": 200,
        "member without scopes": 403,
        "member of another organization": 403,
        "organization token": 200,
        "organization token of another": 403,
        "user behind support": 403,
        "member behind somebody": 200,
        "user of the other API": 401,
        "member at the other API": 401,
    }


def test_a_key_set_that_opens_for_an_attack_is_reported() -> None:
    def publish_a_stranger(good: dict[str, Any], forge: Forge) -> Document:
        return Document.of({"keys": [dict(forge.stranger.as_dict(private=False)) | {"kid": good["kid"]}, good]})

    row = replace(KEY_SET_ROWS[0], id="a stranger's key", build=publish_a_stranger)
    tally = Tally(name="documents")
    asyncio.run(run_key_sets(tally, FORGE, [row]))

    assert tally.failures == ["key set: a stranger's key, attack 0: found 200, raised None"]


def test_a_vector_with_another_outcome_is_reported() -> None:
    rows: list[TokenRow | PayloadRow] = [
        replace(TOKEN_ROWS[0], refused=EXPIRED),
        replace(PAYLOAD_ROWS[-1], id="other", refused=EXPIRED),
    ]
    tally = Tally(name="vectors")
    asyncio.run(run_token_rows(tally, FORGE, rows=rows))

    assert tally.rows == 2
    assert [line.partition(":")[0] for line in tally.failures] == [TOKEN_ROWS[0].id, "other"]


def test_a_suite_that_takes_too_long_is_stopped_and_fails() -> None:
    async def wait(_tally: Tally, _forge: Forge) -> None:
        await asyncio.Event().wait()

    (tally,) = asyncio.run(run_classes({"slow": wait}, longest_seconds=0.01))

    assert tally.failures == ["stopped, because the suite took longer than 0 s"]


def test_the_report_names_classes_rows_failures_and_seconds() -> None:
    good, bad = Tally(name="good", rows=1200, seconds=1.25), Tally(name="bad", seconds=0.5)
    out = io.StringIO()

    assert print_report([good], out=out) == 0
    bad.count("a row", "expected 401, found 200")
    assert print_report([good, bad], out=out) == 1
    assert out.getvalue().splitlines() == [
        "class   rows  failures  seconds",
        "good   1,200         0      1.2",
        "total  1,200         0      1.2",
        "class   rows  failures  seconds",
        "good   1,200         0      1.2",
        "bad        1         1      0.5",
        "total  1,201         1      1.8",
        "FAILED bad: a row: expected 401, found 200",
    ]


@pytest.mark.parametrize("tallies", [[], [Tally(name="empty")]], ids=["no class", "a class without rows"])
def test_a_suite_that_ran_nothing_fails(tallies: list[Tally]) -> None:
    assert print_report(tallies, out=io.StringIO()) == 1


def test_a_mutant_shows_no_token() -> None:
    mutant = Mutant(kind="kind", member="aud", header=b"{}", payload=b"{}", token="a.b.c", original="d.e.f")

    assert repr(mutant) == "Mutant(kind='kind', member='aud')"


def test_a_page_keeps_its_prose_and_gets_new_tables() -> None:
    page = "before\n<!-- run -->\nold\n<!-- /run -->\nafter\n"

    replaced = replace_marked(page, {"run": build_table(["found"], [["a|b"]])})

    assert replaced == "before\n<!-- run -->\n\n| found |\n| --- |\n| a&#124;b |\n\n<!-- /run -->\nafter\n"
    assert replace_marked(replaced, {"run": "old"}) == page.replace("old", "\nold\n")


@pytest.mark.parametrize("page", ["", "<!-- run -->\n<!-- /run -->\n" * 2], ids=["none", "two"])
def test_a_page_without_one_pair_of_markers_is_an_error(page: str) -> None:
    with pytest.raises(ValueError, match="expected the markers of 'run' once"):
        replace_marked(page, {"run": ""})
