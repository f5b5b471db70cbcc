"""The quickstart of the README, exactly as written: an empty folder, a new virtual environment, and servers."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs import README, ROOT
from tests.integration.processes import Process, find_free_port

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALL_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder where commands run as in a terminal with the virtual environment activated."""

    path: Path
    tools: Path
    wheel: Path
    ports: dict[str, str]

    def adapt(self, text: str) -> str:
        """Return a text with free ports for the fixed ones, and this working tree for the published package."""
        for fixed, free in self.ports.items():
            text = re.sub(rf"\b{fixed}\b", free, text)
        text = re.sub(r"^fastapi-logto dev$", f"fastapi-logto dev --port {self.ports['3001']}", text, flags=re.M)
        text = re.sub(r"^fastapi dev$", f"fastapi dev --port {self.ports['8000']}", text, flags=re.M)
        return text.replace('"fastapi-logto[cli]"', f'"fastapi-logto[cli] @ {self.wheel.as_uri()}"')

    @property
    def environment(self) -> dict[str, str]:
        """The variables. The path has only the new virtual environment, Python, uv and the system."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("LOGTO_", "COV", "VIRTUAL"))}
        path = os.pathsep.join([str(self.path / ".venv/bin"), str(self.tools), "/usr/bin", "/bin"])
        return {**own, "PATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}

    def run(self, block: str) -> str:
        """Run a block to its end and return its standard output."""
        done = subprocess.run(
            ["/bin/sh", "-ec", self.adapt(block)],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def start(self, block: str) -> Generator[Process]:
        """Start a server and end it with all its children."""
        popen = subprocess.Popen(
            ["/bin/sh", "-ec", f"exec {self.adapt(block)}"],
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        process = Process(popen)
        try:
            yield process
        finally:
            os.killpg(popen.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait()
            process.kill()


def find_uv() -> str:
    found = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this working tree. Installers cache what they build of a folder, even if its files change."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([find_uv(), "build", "--quiet", "--wheel", "--out-dir", str(folder), str(ROOT)], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(params=["pip", "uv"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, wheel: Path) -> Folder:
    tools = tmp_path / "tools"
    tools.mkdir()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    (tools / "python3").symlink_to(Path(sys.base_prefix) / f"bin/python{version}")
    if request.param == "uv":
        (tools / "uv").symlink_to(find_uv())
    path = tmp_path / "quickstart"
    path.mkdir()
    ports = {"3001": str(find_free_port()), "8000": str(find_free_port())}
    return Folder(path=path, tools=tools, wheel=wheel, ports=ports)


def read_blocks() -> list[tuple[str, str]]:
    (section,) = re.findall(r"^## Quickstart\n(.*?)^## ", README.read_text(), re.M | re.S)
    return BLOCK.findall(section)


def test_the_quickstart_of_the_readme_runs_as_pasted(folder: Folder) -> None:
    (_, pip), (_, uv), (_, dev), (_, variables), (_, main), (_, serve), *calls = blocks = read_blocks()
    assert [kind for kind, _ in blocks] == ["sh", "sh", "sh", "ini", "python", "sh", "sh", "json", "sh", "json"]

    folder.run(uv if (folder.tools / "uv").exists() else pip)
    with folder.start(dev) as issuer:
        output = issuer.wait_for_text("fastapi-logto token --user alice")
        assert folder.adapt(variables) in output
        (folder.path / ".env").write_text(folder.adapt(variables))
        (folder.path / "main.py").write_text(main)
        with folder.start(serve) as api:
            api.wait_for_text("Application startup complete")
            for (_, command), (_, response) in zip(calls[::2], calls[1::2], strict=True):
                assert json.loads(folder.run(command)) == json.loads(response)
            doctor = folder.run(f"fastapi-logto doctor --docs-url http://127.0.0.1:{folder.ports['8000']}/docs")
            routes = folder.run("fastapi-logto routes main:app")

    assert "All checks passed." in doctor
    assert "The 1 API route requires a token." in routes
    assert len(main.splitlines()) <= 20
