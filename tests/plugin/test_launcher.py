"""The plugin's launcher on machines where things are missing: it must always answer MCP."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters

from tests.fixtures.daemon import DEADLINE_SECONDS, ROOT, clean_env
from tests.fixtures.raw_door import INITIALIZE, RawDoor, end_daemon, open_process, text_of

FLEET = f"#!{sys.executable}\nfrom orchestrator.__main__ import main\n"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """The plugin without an installation, in a folder whose name has a space and a quote."""
    place = tmp_path / "the user's plugins" / "fleet 0.1"
    place.mkdir(parents=True)
    for name in ("bin", "orchestrator", ".claude-plugin", "agents", "prompts"):
        shutil.copytree(ROOT / name, place / name)
    for name in ("mcp.config.json", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, place / name)
    return place


@pytest.fixture
def python_only(tmp_path: Path) -> Path:
    """A folder for PATH in which there is a python3 and nothing else; it has none of our packages."""
    place = tmp_path / "python-only"
    place.mkdir()
    (place / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    return place


Launch = Callable[..., RawDoor]


@pytest.fixture
def launch(plugin: Path, python_only: Path, tmp_path: Path, state: Path, project: Path) -> Iterator[Launch]:
    """Starts the launcher as the plugin's configuration does; what is given overrides the environment."""
    (server,) = json.loads((ROOT / "mcp.config.json").read_text())["mcpServers"].values()
    opened: list[RawDoor] = []

    def start(**env: str) -> RawDoor:
        clean = {**clean_env(tmp_path, state), "PATH": str(python_only), "CLAUDE_PLUGIN_ROOT": str(plugin)}
        del clean["PYTHONPATH"]
        command = [f"/bin/{server['command']}", *server["args"]]
        # the configuration names `sh`, which Claude finds on its own PATH; `exec sh` behind it needs one, too
        clean["PATH"] += f":{shell_folder(tmp_path)}"
        opened.append(open_process(command, {**clean, **env}, project))
        return opened[-1]

    yield start
    for door in opened:
        door.kill()
    end_daemon(state)


def shell_folder(tmp_path: Path) -> Path:
    """A folder for PATH in which there is nothing but `sh`."""
    place = tmp_path / "shell-only"
    place.mkdir(exist_ok=True)
    if not (place / "sh").exists():
        (place / "sh").symlink_to("/bin/sh")
    return place


def program(place: Path, text: str) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(0o755)
    return place


@pytest.mark.requirement("plugin:launcher:answers-uninstalled")
@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_without_an_installation_it_says_what_to_run_in_both_eras(
    plugin: Path, python_only: Path, tmp_path: Path, mode: str
) -> None:
    env = {"PATH": f"{python_only}:{shell_folder(tmp_path)}"}
    server = StdioServerParameters(command="/bin/sh", args=[str(plugin / "bin" / "fleet-mcp")], env=env)
    with anyio.fail_after(DEADLINE_SECONDS):
        async with Client(server, mode=mode) as client:
            (tool,) = (await client.list_tools()).tools
            result = await client.call_tool(tool.name, {})
    assert tool.name == "fleet_not_installed"
    assert result.is_error
    (block,) = result.content
    assert block.type == "text"
    assert "python3 -m venv" in block.text
    assert f"{plugin}/.venv/bin/pip" in block.text.replace("'\\''", "'")


def test_what_it_says_to_run_is_right_for_a_shell(launch: Launch, plugin: Path, tmp_path: Path) -> None:
    data = tmp_path / "plugin data"
    text = launch(CLAUDE_PLUGIN_DATA=str(data)).tool("fleet_not_installed")
    make, _, install = text.partition("terminal: ")[2].partition(" (Python")[0].partition(" && ")
    assert shell_words(make) == ["python3", "-m", "venv", str(data / "venv")]
    assert shell_words(install) == [str(data / "venv/bin/pip"), "install", str(plugin)]


def shell_words(command: str) -> list[str]:
    """What a shell makes of a command's words."""
    ran = subprocess.run(
        ["/bin/sh", "-c", f"for word in {command}; do printf '%s\\n' \"$word\"; done"],
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()


@pytest.mark.requirement("plugin:launcher:answers-uninstalled")
def test_without_any_python_the_shell_itself_answers(launch: Launch, tmp_path: Path) -> None:
    door = launch(PATH=str(shell_folder(tmp_path)))
    assert "error" in door.call("server/discover")
    assert door.call("initialize", INITIALIZE, era={})["result"]["protocolVersion"] == "2025-11-25"
    door.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    (tool,) = door.call("tools/list", era={})["result"]["tools"]
    assert tool["name"] == "fleet_not_installed"
    answer = door.answer(door.post_tool(tool["name"], era={}))
    assert answer["result"]["isError"]
    assert "Python 3.11" in text_of(answer)
    assert door.call("ping", era={})["result"] == {}
    assert door.leave() == 0


@pytest.mark.parametrize("where", ["its own .venv", "the plugin's data"])
def test_an_installation_of_its_own_is_used(launch: Launch, plugin: Path, tmp_path: Path, where: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    venv = plugin / ".venv" if where == "its own .venv" else data / "venv"
    venv.symlink_to(sys.prefix)
    assert "create_agent" in launch(CLAUDE_PLUGIN_DATA=str(data)).tool_names()


def test_a_broken_installation_is_passed_over(launch: Launch, plugin: Path) -> None:
    program(plugin / ".venv" / "bin" / "python", "#!/nonexistent/python\n")
    program(plugin / ".venv" / "bin" / "fleet", "#!/nonexistent/python\n")
    assert launch().tool_names() == ["fleet_not_installed"]


def test_an_installation_without_the_door_is_passed_over(launch: Launch, plugin: Path) -> None:
    (plugin / ".venv" / "bin").mkdir(parents=True)
    (plugin / ".venv" / "bin" / "python").symlink_to(getattr(sys, "_base_executable", sys.executable))
    assert launch().tool_names() == ["fleet_not_installed"]


def test_a_python_that_is_too_old_is_passed_over(launch: Launch, plugin: Path) -> None:
    older = "import sys\nif sys.argv[2] == '-c':\n    sys.version_info = (3, 10, 14)\n    exec(sys.argv[3])\n"
    program(plugin / ".venv" / "bin" / "python", f"#!{sys.executable}\n{older}")
    assert launch().tool_names() == ["fleet_not_installed"]


def test_a_fleet_on_the_path_is_used_if_it_is_ours(launch: Launch, tmp_path: Path) -> None:
    found = program(tmp_path / "tools" / "fleet", f"{FLEET}raise SystemExit(main())\n")
    door = launch(PATH=f"{found.parent}:{shell_folder(tmp_path)}")
    assert "create_agent" in door.tool_names()


def test_in_the_home_directory_what_the_user_installed_there_is_not_the_projects(
    launch: Launch, tmp_path: Path
) -> None:
    found = program(tmp_path / ".local" / "bin" / "fleet", f"{FLEET}raise SystemExit(main())\n")
    path = f"{found.parent}:{shell_folder(tmp_path)}"
    assert "create_agent" in launch(PATH=path, CLAUDE_PROJECT_DIR=str(tmp_path), HOME=str(tmp_path)).tool_names()


def test_another_program_called_fleet_is_not_run(launch: Launch, python_only: Path, tmp_path: Path) -> None:
    trace = tmp_path / "was run"
    found = program(tmp_path / "tools" / "fleet", f"#!/bin/sh\n: > '{trace}'\n")
    door = launch(PATH=f"{found.parent}:{python_only}:{shell_folder(tmp_path)}")
    assert door.tool_names() == ["fleet_not_installed"]
    assert not trace.exists()


@pytest.mark.parametrize("told", [True, False])
def test_nothing_of_the_project_is_run(
    launch: Launch, project: Path, python_only: Path, tmp_path: Path, *, told: bool
) -> None:
    trace = tmp_path / "was run"
    for name in ("fleet", "python", "python3", "uvx"):
        program(project / ".venv" / "bin" / name, f"#!/bin/sh\n# orchestrator.__main__\n: > '{trace}'\n")
    program(project / "orchestrator" / "__init__.py", f"open({str(trace)!r}, 'w')\n")
    program(project / "json.py", f"open({str(trace)!r}, 'w')\n")
    told_env = {"CLAUDE_PROJECT_DIR": str(project)} if told else {}
    path = f"{project}/.venv/bin:.venv/bin:{python_only}:{shell_folder(tmp_path)}"
    assert launch(PATH=path, PYTHONPATH=str(project), **told_env).tool_names() == ["fleet_not_installed"]
    assert not trace.exists()


def test_the_message_token_of_the_host_goes_no_further(launch: Launch, tmp_path: Path) -> None:
    shown = tmp_path / "environment"
    show = f"import json, os\njson.dump(dict(os.environ), open({str(shown)!r}, 'w'))\n"
    found = program(tmp_path / "tools" / "fleet", f"{FLEET}{show}raise SystemExit(main())\n")
    door = launch(PATH=f"{found.parent}:{shell_folder(tmp_path)}", CLAUDE_CODE_MESSAGING_TOKEN="secret", TZ="UTC")
    door.tool_names()
    assert json.loads(shown.read_text())["TZ"] == "UTC"
    assert "secret" not in shown.read_text()
