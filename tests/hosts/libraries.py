"""`make hosts`: the libraries of other vendors' hosts convert Fleet's tools and the crew tools, over the real door.

Their environment is made by `make hosts`, which names this file to pytest; the name keeps it out of every other run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.server.mcp import tools
from tests.fixtures.daemon import clean_env
from tests.fixtures.raw_door import end_daemon
from tests.hosts import crew
from tests.hosts.convert import LIBRARIES

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".hosts" / "bin" / "python"
CONVERT = Path(__file__).with_name("convert.py")
LIMIT_SECONDS = 120.0


def converted(library: str, env: dict[str, str], cwd: Path, *server: str) -> list[str]:
    """The names of the tools that the library converted."""
    ran = subprocess.run(
        [str(PYTHON), "-W", "ignore", str(CONVERT), library, sys.executable, *server],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_of_another_vendor_takes_the_tools_of_the_door(
    library: str, tmp_path: Path, state: Path, project: Path
) -> None:
    env = clean_env(tmp_path, state, OPENAI_AGENTS_DISABLE_TRACING="1")
    try:
        assert converted(library, env, project, "-m", "orchestrator", "mcp") == list(tools.names())
    finally:
        end_daemon(state)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_of_another_vendor_takes_the_crew_tools(library: str, tmp_path: Path, state: Path) -> None:
    env = {**clean_env(tmp_path, state), "PYTHONPATH": str(ROOT)}
    assert converted(library, env, ROOT, "-m", "tests.hosts.crew") == [tool.name for tool in crew.TOOLS]
