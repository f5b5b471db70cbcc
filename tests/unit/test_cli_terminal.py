"""Every text is escaped by one function before it is printed, and the terminal escapes texts that were not."""

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.panel import Panel
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from fastapi_logto.cli.loops import run_to_end
from fastapi_logto.cli.results import ExitCode
from fastapi_logto.cli.terminal import Terminal, ask_secret, build_text, confirm, escape, escape_lines, warn, write
from tests.captured import DISCOVERY_PATH, Answer, Fault, serve_captured
from tests.conftest import RunCli
from tests.integration.processes import accept_interrupts
from tests.tenants import API
from tests.terminals import run_on_terminal

TITLE = "\x1b]0;title\x07"
LINK = "\x1b]8;;https://evil.example\x1b\\click"
MARKUP = "[link=https://evil.example]click[/link]"

ESCAPED = (
    ("", ""),
    ("plain ASCII, also \\x1b that is written out", "plain ASCII, also \\x1b that is written out"),
    ("\xfc, \u4e2d and \U0001f600 are printable", "\xfc, \u4e2d and \U0001f600 are printable"),
    ("\x1b[2J", "\\x1b[2J"),
    (TITLE, "\\x1b]0;title\\x07"),
    (LINK, "\\x1b]8;;https://evil.example\\x1b\\click"),
    ("\x9b31m", "\\x9b31m"),
    ("\x9d0;title\x9c", "\\x9d0;title\\x9c"),
    ("\x90q\x9c", "\\x90q\\x9c"),
    ("a\nb", "a\\nb"),
    ("a\r\nb", "a\\r\\nb"),
    ("a\x0b\x0c\x1c\x85b", "a\\x0b\\x0c\\x1c\\x85b"),
    ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    ("\x00\x08\t\x7f", "\\x00\\x08\\t\\x7f"),
    ("\u202eevil\u202c", "\\u202eevil\\u202c"),
    ("\u2066a\u2069\u200e\u200f\u061c", "\\u2066a\\u2069\\u200e\\u200f\\u061c"),
    ("a\u200bb\ufeffc\xad", "a\\u200bb\\ufeffc\\xad"),
    ("\xa0\u3000", "\\xa0\\u3000"),
    ("\udcff\ud800", "\\udcff\\ud800"),
    ("\U000e0041\ue000\uffff", "\\U000e0041\\ue000\\uffff"),
    (MARKUP, MARKUP),
)


@pytest.mark.parametrize(("text", "escaped"), ESCAPED)
def test_a_text_is_escaped_unless_it_is_printable(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert escape(escaped) == escaped
    assert build_text(text).plain == escaped
    assert escape_lines(f"{text}") == "\n".join(map(escape, text.split("\n")))


def test_every_character_that_is_left_is_printable() -> None:
    assert escape("".join(map(chr, range(0x11_0000)))).isprintable()


def show_on_terminal(renderable: RenderableType, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the output on a terminal with colours and links."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    Terminal().print(renderable)
    return stream.getvalue()


def _build_table(text: str) -> Table:
    table = Table(text)
    table.add_row(text, Text(text))
    return table


class _Segments:
    """A renderable that escapes nothing."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        yield Segment(self._text, Style(link=f"https://evil.example/{self._text}"))
        yield Segment.line()


def _build_panel(text: str) -> Panel:
    return Panel(Text(text, style="bold"), subtitle=Text(text))


def _build_link(text: str) -> Text:
    return Text.assemble((text, Style(link="https://evil.example")))


# None of them uses `build_text`, so the terminal has to escape them.
FORGOTTEN: tuple[Callable[[str], RenderableType], ...] = (str, Text, _build_link, _build_table, _build_panel, _Segments)


@pytest.mark.parametrize("text", [TITLE, LINK, "\x9b31m\u202e", MARKUP, "[/x]", ":warning:"])
@pytest.mark.parametrize("build", FORGOTTEN)
def test_the_terminal_escapes_what_was_forgotten(
    build: Callable[[str], RenderableType], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = show_on_terminal(build(text), monkeypatch)

    # Only Rich's own colours are left.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert {one for one in plain if not one.isprintable()} == {"\n"}
    assert escape(text)[:2] in plain


def test_what_other_programs_read_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    write(f"a\n{TITLE}")
    warn(f"b\n{LINK}[/x]")

    printed = capsys.readouterr()
    assert printed.out == "a\n\\x1b]0;title\\x07\n"
    assert printed.err == "b\n\\x1b]8;;https://evil.example\\x1b\\click[/x]\n"


def test_a_question_is_escaped(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))

    with pytest.raises(typer.Abort):
        confirm(f"Delete {TITLE}?")

    assert capsys.readouterr().err == "Delete \\x1b]0;title\\x07? [y/N]:"


def test_a_secret_that_is_not_text_is_refused(monkeypatch: pytest.MonkeyPatch, cli: RunCli, tmp_path: Path) -> None:
    typed = "hunter2\udcff"

    def read(_prompt: str) -> str:
        return typed

    monkeypatch.setattr("getpass.getpass", read)
    (tmp_path / ".env").write_text(f"LOGTO_ENDPOINT=http://127.0.0.1:1\nLOGTO_AUDIENCE={API}\nLOGTO_MACHINE_ID=m\n")

    ended = cli("token", "--machine", is_terminal=True)

    assert ended.code == 2
    assert ended.err.endswith("fastapi-logto: prompt: expected UTF-8, found other bytes\n")
    typed = "hunter2"
    assert ask_secret("Secret") == "hunter2"


def _find_controls(seen: bytes) -> set[str]:
    """Return the control characters of an output, except for Rich's colours, cursor and line clearing."""
    own = re.sub(r"\x1b\[(?:[0-9;]*m|\?25[lh]|2K|1A)", "", seen.decode())
    return {one for one in own if not one.isprintable()} - {"\n", "\r"}


def test_the_prompt_for_a_secret_shows_where_it_is_sent_and_no_control_character(tmp_path: Path) -> None:
    with serve_captured() as server:
        server.replace("/oidc/.well-known/openid-configuration", Answer(status=404))
        (tmp_path / ".env").write_text(
            f'LOGTO_ENDPOINT={server.endpoint}\nLOGTO_AUDIENCE={API}\nLOGTO_MACHINE_ID="x{TITLE}\x1b[31mred"\n'
        )
        session = run_on_terminal("token", "--machine", environment={}, cwd=tmp_path, typed="hunter2")

    assert session.code == 2
    assert _find_controls(session.seen) == set()
    prompt = f"Secret of x\\x1b]0;title\\x07\\x1b[31mred at {server.endpoint} (not shown): "
    assert session.seen.startswith(prompt.encode())
    assert b"hunter2" not in session.seen


@pytest.mark.parametrize("path", ["[/x]", MARKUP.replace("https://", ""), "[red]", ":warning:"])
def test_progress_does_not_interpret_markup_in_an_endpoint(path: str, tmp_path: Path) -> None:
    with serve_captured() as server:
        environment = {"LOGTO_ENDPOINT": f"{server.endpoint}/{path}", "LOGTO_AUDIENCE": API}
        session = run_on_terminal("doctor", environment=environment, cwd=tmp_path)

    assert session.code == 1
    assert _find_controls(session.seen) == set()
    assert f"Checking {server.endpoint}/{path}".encode() in session.seen
    assert b"]8;" not in session.seen


def test_a_token_that_holds_control_characters_is_not_printed(tmp_path: Path) -> None:
    with serve_captured() as server:
        server.replace("/oidc/auth", Answer.redirect("http://127.0.0.1:8000/?code=x", status=303))
        server.replace("/oidc/token", Answer.json({"access_token": f"{TITLE}\x1b[2J not a token", "scope": "a"}))
        environment = {"LOGTO_ENDPOINT": server.endpoint, "LOGTO_AUDIENCE": API}
        session = run_on_terminal("token", "--user", "alice", environment=environment, cwd=tmp_path)

    assert session.code == 2
    assert session.seen.endswith(b"/oidc/token: expected a token, found invalid characters\r\n")


def test_an_exception_that_no_command_expects_is_one_line_without_its_text(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "faulty.py").write_text(
        "from fastapi import FastAPI\n"
        "class App(FastAPI):\n"
        "    @property\n"
        "    def routes(self): raise LookupError('hunter2')\n"
        "app = App.__new__(App)\n"
    )
    sys.modules.pop("faulty", None)

    ended = cli("routes", "faulty:app")

    assert (ended.code, ended.out) == (ExitCode.FAULT, "")
    assert ended.err == (
        "fastapi-logto: unexpected LookupError at faulty.py:4; please report this bug\n"
    )  # fmt: skip


def test_an_interrupted_command_ends_without_a_word(cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text("raise KeyboardInterrupt\n")

    ended = cli("routes", "interrupted:app")

    assert (ended.code, ended.out, ended.err) == (ExitCode.INTERRUPTED, "", "")


@pytest.mark.parametrize("moment", ["before the coroutine runs", "while it runs"])
def test_an_interrupt_while_the_thread_starts_cancels_the_coroutine(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, cancelled = threading.Event(), threading.Event()
    start, started = threading.Thread.start, list[threading.Thread]()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def start_and_interrupt(thread: threading.Thread) -> None:
        start(thread)
        started.append(thread)
        if moment == "while it runs":
            assert begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_to_end(wait())

    started[0].join()
    assert cancelled.is_set() == begun.is_set()


def test_a_command_that_waits_for_a_tenant_can_be_interrupted(tmp_path: Path) -> None:
    with serve_captured() as server:
        server.replace(DISCOVERY_PATH, Fault.HANG)
        variables = {
            "LOGTO_ENDPOINT": server.endpoint,
            "LOGTO_AUDIENCE": API,
            "LOGTO_FETCH_TIMEOUT_SECONDS": "60",
        }
        with subprocess.Popen(
            [sys.executable, "-m", "fastapi_logto", "doctor"],
            env={**os.environ, **variables},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=accept_interrupts,  # noqa: PLW1509 - one system call
        ) as process:
            while not server.requests:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            printed = process.communicate(timeout=30)

    assert (process.returncode, printed) == (ExitCode.INTERRUPTED, (b"", b""))
