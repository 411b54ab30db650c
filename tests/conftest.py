"""What every test starts with: an environment without anything from the machine it runs on.

Fixtures of one topic live in `tests/fixtures/<topic>.py`; every module there is loaded.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

HERE = Path(__file__).parent

_PREFIXES = (
    "AGENT_", "ANTHROPIC_", "AWS_", "CLAUDE", "CLOUD_ML_", "CODEX_", "CONDA_", "FLEET_", "GEMINI_", "GIT_", "GOOGLE_",
    "LC_", "MCP_", "OPENAI_", "XDG_",
)  # fmt: skip
_NAMES = frozenset(
    {
        "CLICOLOR_FORCE",
        "COLUMNS",
        "FORCE_COLOR",
        "LINES",
        "NO_COLOR",
        "PY_COLORS",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "TMUX",
        "TTY_COMPATIBLE",
        "VIRTUAL_ENV",
    }
)
_KEPT = frozenset({"GIT_SSL_CAINFO"})


SLOW = (
    "chaos",
    "cli/test_demo.py",
    "conformance",
    "faults",
    "hosts",
    "inbox",
    "journeys/test_chains.py",
    "journeys/test_run.py",
    "supervision/test_leavers.py",
    "verify",
)
"""folders and files whose tests spend long waiting for real programs; `make test-slow` runs them"""

LONGEST = ("server/test_nonsense.py", "verify/", "cli/test_demo.py", "faults/test_table.py")
"""files that begin first, so that no process is left alone with one of them at the end"""


def _foreign(name: str) -> bool:
    return name not in _KEPT and (name.startswith(_PREFIXES) or name in _NAMES)


def _forget_this_machine() -> None:
    """Take away keys, logins, settings and the home of whoever runs the tests, before any of our code is imported."""
    for name in [name for name in os.environ if _foreign(name)]:
        del os.environ[name]
    os.environ["LANG"] = "C.UTF-8"
    os.environ["HOME"] = tempfile.mkdtemp(prefix="fleet-tests-home-")


_forget_this_machine()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in the background by a shell; what the tests start would inherit it and could not be interrupted
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, before anything is chosen by marks, and put the longest files first."""
    for item in items:
        place = item.path.relative_to(HERE).as_posix()
        if any(place == one or place.startswith(f"{one}/") for one in SLOW):
            item.add_marker("slow")
    items.sort(key=lambda item: not item.path.relative_to(HERE).as_posix().startswith(LONGEST))


settings.register_profile("fleet", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("fleet")  # a pause of the machine is not the code's fault
pytest_plugins = [f"tests.fixtures.{path.stem}" for path in sorted((HERE / "fixtures").glob("[!_]*.py"))]


@pytest.fixture
def anyio_backend() -> str:
    """The event loop that Fleet runs on."""
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, which HOME names for the time of the test."""
    place = tmp_path / "home"
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    return place


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded for the reader of a run, under its heading."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    noted = [pair for report in reports if report.when == "call" for pair in report.user_properties]
    for heading in dict.fromkeys(heading for heading, _ in noted):
        terminalreporter.section(heading)
        for name, text in noted:
            if name == heading:
                terminalreporter.write_line(str(text))


def pytest_unconfigure() -> None:
    """Take the tests' home away again."""
    place = Path(os.environ["HOME"])
    if place.name.startswith("fleet-tests-home-"):
        shutil.rmtree(place, ignore_errors=True)
