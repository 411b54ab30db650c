"""What of its caller's environment an agent gets: the ssh-agent, the umask and the variables of FLEET_PASS_ENV."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator import paths, rehearsal
from tests.fixtures.daemon import clean_env, wait_until
from tests.fixtures.fleet_command import Command, Ran
from tests.fixtures.repositories import repository

SCRIPT = """
name: run
parts:
  - part: run
    match: {task: "^run (?P<command>.*)"}
    replies:
      - calls: [{tool: Bash, as: out, input: {command: "{{ command }}"}}]
      - say: "it said: {{ results.out }}"
"""
SECRET = "a-token-that-nobody-stores"
SIGN = "git commit -q -S --allow-empty -m signed && git cat-file commit HEAD | grep -c 'BEGIN SSH SIGNATURE'"


@contextmanager
def ssh_agent(place: Path, name: str) -> Generator[tuple[str, str]]:
    """A real ssh-agent with one key, which exists nowhere else: its socket and the public key."""
    socket, key = place / f"{name}.sock", place / f"{name}-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True)
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(socket.is_socket, "the ssh-agent")
        subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": str(socket)}, check=True)
        key.unlink()
        yield str(socket), key.with_suffix(".pub").read_text().strip()
    finally:
        process.terminate()
        process.wait()
        socket.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """`fleet` in a git project; its daemon was started by a caller without an ssh-agent, with the umask 077."""
    place = tmp_path_factory.mktemp("environment")
    project, home, script = place / "project", place / "home", place / "run.yaml"
    script.write_text(SCRIPT)
    home.mkdir()
    project.mkdir()
    for words in ("init -q", "config user.name t", "config user.email t@example.com", "config gpg.format ssh"):
        subprocess.run(["git", *words.split()], cwd=project, check=True)
    with (
        tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as state,
        rehearsal.start(script) as model,
    ):
        settings = {"FLEET_REST_SECONDS": "0", "FLEET_REHEARSAL": "run"}
        account = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "nobody"}
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        fleet = Command(project, clean_env(home, Path(state), **settings, **account, **quiet))
        assert under(0o077, fleet, "up").code == 0
        yield fleet
        assert fleet("down", "--interrupt").code == 0


def under(mask: int, fleet: Command, *arguments: str) -> Ran:
    """Run `fleet` in a shell with this umask."""
    words = [sys.executable, "-m", "orchestrator", *arguments]
    done = subprocess.run(
        words, cwd=fleet.cwd, env=fleet.env, umask=mask, capture_output=True, text=True, timeout=120, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.requirement("environment:ssh-agent:of-the-caller")
def test_an_agent_signs_with_its_callers_ssh_agent_and_with_the_current_one_after_that_has_gone(
    fleet: Command, tmp_path: Path
) -> None:
    with ssh_agent(tmp_path, "first") as (socket, public):
        subprocess.run(["git", "config", "user.signingkey", f"key::{public}"], cwd=fleet.cwd, check=True)
        made = fleet("create", "signer", f"run {SIGN}", "--wait", SSH_AUTH_SOCK=socket)
        assert made.code == 0, made.out + made.err
        assert fleet("output", "signer").out.strip() == "it said: 1"
    with ssh_agent(tmp_path, "second") as (socket, public):
        assert fleet("command", "signer", "run ssh-add -L", SSH_AUTH_SOCK=socket).code == 0
        assert fleet("wait", "signer").code == 0
        assert fleet("output", "signer").out.strip() == f"it said: {public}"


@pytest.mark.requirement("environment:pass-env:named-variables")
def test_the_variables_of_fleet_pass_env_reach_the_agent_with_their_current_values_and_are_never_stored(
    fleet: Command,
) -> None:
    named = {"FLEET_PASS_ENV": "GREETING, NPM_TOKEN,UNSET", "GREETING": "hello", "NPM_TOKEN": SECRET}
    show = 'run echo "${GREETING-none} ${#NPM_TOKEN} ${UNSET-unset}"'
    assert fleet("create", "reader", show, "--wait", **named).code == 0
    assert fleet("output", "reader").out.strip() == f"it said: hello {len(SECRET)} unset"
    assert fleet("command", "reader", show, **{**named, "GREETING": "good day"}).code == 0
    assert fleet("wait", "reader").code == 0
    assert "good day" in fleet("output", "reader").out

    assert fleet("create", "other", show, "--wait").code == 0
    assert fleet("output", "other").out.strip() == "it said: none 0 unset"
    state = Path(fleet.env["FLEET_STATE"])
    files = [path for path in state.rglob("*") if path.is_file() and path.name != "http.token"]
    assert paths.database_path(state) in files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.requirement("environment:pass-env:named-variables")
def test_a_name_that_must_not_pass_is_refused_with_its_reason_and_the_rest_goes_on(fleet: Command) -> None:
    named = {"FLEET_PASS_ENV": "GREETING,ANTHROPIC_BASE_URL,LD_PRELOAD,not-a-name", "GREETING": "hello"}
    refused = fleet("create", "nobody", "run true", **named)
    assert refused.code == 2
    for part in ("'ANTHROPIC_BASE_URL' cannot pass: it decides which model provider", "LD_PRELOAD", "'not-a-name'"):
        assert part in refused.err
    assert "GREETING" not in refused.err
    assert fleet("ps", **named).code == 0
    assert fleet("show", "nobody").code == 3
    doctor = fleet("doctor", **named)
    assert doctor.code == 1
    assert "LD_PRELOAD" in doctor.out


@pytest.mark.requirement("environment:umask:of-the-caller")
def test_new_files_of_an_agent_have_the_mode_that_its_callers_umask_gives_them(fleet: Command) -> None:
    for mask, mode in ((0o022, 0o644), (0o027, 0o640)):
        name = f"writer-{mask:o}"
        made = under(mask, fleet, "create", name, f'run echo "${{FLEET_UMASK-unset}}" > {name}', "--wait")
        assert made.code == 0, made.out + made.err
        written = fleet.cwd / name
        assert stat.S_IMODE(written.stat().st_mode) == mode
        assert written.read_text() == "unset\n"


@pytest.mark.requirement("cli:doctor:what-to-do")
def test_doctor_shows_what_agents_get_besides_the_account_and_no_value(fleet: Command, tmp_path: Path) -> None:
    plain = fleet("doctor").out
    assert "SSH_AUTH_SOCK is not set" in plain
    assert "FLEET_PASS_ENV is not set" in plain
    with ssh_agent(tmp_path, "shown") as (socket, _):
        told = fleet("doctor", SSH_AUTH_SOCK=socket, FLEET_PASS_ENV="NPM_TOKEN,UNSET", NPM_TOKEN=SECRET).out
    assert f"{socket}, passed to agents that have a shell" in told
    assert "passes NPM_TOKEN to agents; not set here: UNSET" in told
    assert SECRET not in told
    assert "not a socket" in fleet("doctor", SSH_AUTH_SOCK=socket).out


@pytest.mark.requirement("environment:author:asked-before-work")
def test_a_persona_that_commits_asks_for_the_author_before_its_first_model_call(fleet: Command, tmp_path: Path) -> None:
    place = tmp_path / "without-author"
    place.mkdir()
    for words in ("init -q", "config user.useConfigOnly true"):
        subprocess.run(["git", *words.split()], cwd=place, check=True)
    asking = Command(place, fleet.env)
    commit = "run git commit -q --allow-empty -m shipped && git log -1 --format='%an %ae %cn'"
    made = asking("create", "ships", commit, "--persona", "shipper", "--wait")
    assert "NEEDS YOU" in made.out, made.out + made.err
    assert "who the author of my commits here is" in made.out
    waiting = asking("show", "ships", "--json").json["agent"]
    assert (waiting["status"], waiting["wait"]["kind"], waiting["cost_usd"]) == ("waiting", "question", 0)
    assert waiting["tokens"] == 0

    assert asking("command", "ships", "done").code == 0
    assert asking("wait", "ships").code == 5
    assert asking("command", "ships", "Ada Love <ada@example.org>").code == 0
    assert asking("wait", "ships").code == 0
    assert asking("output", "ships").out.strip() == "it said: Ada Love ada@example.org Ada Love"
    assert asking("command", "ships", commit).code == 0
    assert asking("wait", "ships").code == 0
    authors = subprocess.run(["git", "log", "--format=%an"], cwd=place, check=True, capture_output=True, text=True)
    assert authors.stdout.split("\n") == ["Ada Love", "Ada Love", ""]

    mended = asking("create", "ships-too", commit, "--persona", "shipper", "--wait")
    assert "NEEDS YOU" in mended.out
    for words in ("config user.name Grace", "config user.email grace@example.org"):
        subprocess.run(["git", *words.split()], cwd=place, check=True)
    assert asking("command", "ships-too", "done").code == 0
    assert asking("wait", "ships-too").code == 0
    assert asking("output", "ships-too").out.strip() == "it said: Grace grace@example.org Grace"


@pytest.mark.requirement("environment:author:asked-before-work", "checkout:look:nothing-waits")
def test_a_pipe_for_which_git_would_wait_is_named_before_the_first_model_call(fleet: Command, tmp_path: Path) -> None:
    place = repository(tmp_path / "piped")
    for words in ("config user.name Grace", "config user.email grace@example.org"):
        subprocess.run(["git", *words.split()], cwd=place, check=True)
    settings = place / ".git" / "config"
    settings.rename(place / ".git" / "kept")
    os.mkfifo(settings)
    asking = Command(place, fleet.env)
    commit = "run git commit -q --allow-empty -m shipped && git log -1 --format=%an"
    made = asking("create", "waits", commit, "--persona", "shipper", "--wait")
    assert "NEEDS YOU" in made.out, made.out + made.err
    assert f"who the author of my commits here is ({settings} is not a regular file)" in made.out
    (place / ".git" / "kept").replace(settings)
    assert asking("command", "waits", "done").code == 0
    assert asking("wait", "waits").code == 0
    assert asking("output", "waits").out.strip() == "it said: Grace"
