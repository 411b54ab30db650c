"""The tier is chosen by testing what this machine supports; tier A hides what a program must not see."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from orchestrator.errors import InvalidError
from orchestrator.providers.claude.catalog import SOCKET_FOLDERS, bundled_program
from orchestrator.settings import read_settings
from orchestrator.supervision import cgroups
from orchestrator.supervision.foreign_sockets import private_places
from orchestrator.supervision.hidden import hidden_place, wait_in_place
from orchestrator.supervision.reaper import ProcessIdentity, reap
from orchestrator.supervision.tiers import (
    UNIT,
    WORK,
    Tier,
    choose_tier,
    launcher_environment,
    working_tree_of,
    write_launcher,
)
from tests.fixtures.leavers import PATH, Leavers, tier_or_skip

ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8"}
HYBRID = Path("/sys/fs/cgroup/unified")
"""where a machine of the older kind, with root's help, still has cgroups of the kind that can be killed"""


def install(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o700)


def run(tier: Tier, body: str, place: Path, *arguments: str, **view: Path) -> subprocess.CompletedProcess[str]:
    program = place / "program"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o700)
    hidden = (hidden_place(view.pop("hidden")),) if "hidden" in view else ()
    return subprocess.run(
        [write_launcher(place / "launchers", program, tier, hidden), *arguments],
        env={**os.environ, **launcher_environment(ENVIRONMENT, marker="word", hidden=hidden, **view)},
        cwd=view.get("working_tree", place),
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.requirement("process:tier:shown")
def test_bubblewrap_that_works_gives_tier_a() -> None:
    tier = tier_or_skip("A")
    assert (choose_tier("", PATH), tier.limitation, tier.hides) == (tier, "", True)
    assert "bubblewrap" in str(tier)


@pytest.mark.requirement("process:tier:shown")
def test_without_bubblewrap_the_next_best_tier_says_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    tier = choose_tier("", str(tmp_path))
    assert tier.letter in "BC"
    assert tier.limitation == "bubblewrap is not installed"
    assert "apt install bubblewrap" in tier.advice


@pytest.mark.requirement("process:tier:shown")
def test_bubblewrap_that_is_not_allowed_to_work_is_no_tier_a_and_its_own_words_say_why(tmp_path: Path) -> None:
    install(tmp_path / "bin", "bwrap", 'echo "bwrap: setting up uid map: Permission denied" >&2; exit 1')
    tier = choose_tier("", str(tmp_path / "bin"))
    assert tier.letter in "BC"
    assert "setting up uid map: Permission denied" in tier.limitation
    assert "user namespaces" in tier.advice


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_a_bubblewrap_that_lies_in_a_project_is_none(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").touch()
    install(tmp_path / "bin", "bwrap", f"touch {tmp_path}/owned")
    assert choose_tier("", str(tmp_path / "bin")).limitation == "bubblewrap is not installed"
    assert not (tmp_path / "owned").exists()


@pytest.mark.requirement("process:tier:shown")
@pytest.mark.skipif(cgroups.delegated_cgroup() is not None, reason="a cgroup is delegated here: systemd is not asked")
def test_a_systemd_user_session_gives_tier_b_each_session_in_a_scope_of_its_own(tmp_path: Path) -> None:
    said = tmp_path / "said"
    install(
        tmp_path / "bin",
        "systemd-run",
        f'echo "$XDG_RUNTIME_DIR $*" >> {said}\nuntil [ "$1" = -- ]; do shift; done\nshift\nexec "$@"',
    )
    tier = choose_tier("B", str(tmp_path / "bin"))
    done = run(tier, 'echo "ran $1"', tmp_path, "well")
    assert (tier.letter, done.stdout) == ("B", "ran well\n")
    last = said.read_text().splitlines()[-1]
    assert last.startswith(f"/run/user/{os.geteuid()} --user --scope --quiet --collect --unit=fleet-word -- ")


@pytest.mark.requirement("process:tier:shown")
def test_a_wish_that_cannot_be_met_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="FLEET_SUPERVISION=A: bubblewrap is not installed") as caught:
        choose_tier("A", str(tmp_path))
    assert "install bubblewrap" in caught.value.hint
    with pytest.raises(InvalidError, match="FLEET_SUPERVISION"):
        read_settings({"FLEET_SUPERVISION": "Z"})
    assert choose_tier("C", PATH).letter == "C"


@pytest.mark.requirement("process:tier:shown")
def test_another_system_promises_less_and_says_so() -> None:
    tier = choose_tier("", PATH, system="darwin")
    assert tier.letter == "D"
    assert "can outlive" in tier.guarantee
    assert "left-over" in tier.advice
    with pytest.raises(InvalidError, match="neither pid namespaces nor cgroups"):
        choose_tier("A", PATH, system="darwin")


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_a_program_sees_the_whole_machine_but_not_the_hidden_directory(tmp_path: Path) -> None:
    tier = tier_or_skip("A")
    state, outside = tmp_path / "the state", tmp_path / "outside"
    for folder in (state / "agents" / "mine", state / "agents" / "theirs", outside):
        folder.mkdir(parents=True)
    (state / "fleet.db").write_text("secret")
    (state / "agents" / "theirs" / "transcript").write_text("secret")
    body = f"""
find '{state}' | sort
touch '{state}/mine.sock' 2> /dev/null || echo sealed
echo kept > '{state}/agents/mine/note'
echo kept > '{outside}/note'
umount '{state}' 2> /dev/null || echo mounted
unshare -rm sh -c "umount '{state}'" 2> /dev/null || echo locked
"""
    link = tmp_path / "link"
    link.symlink_to(state)
    done = run(tier, body, tmp_path, hidden=link, folder=link / "agents" / "mine")
    assert done.stdout.splitlines() == [
        str(state),
        f"{state}/agents",
        f"{state}/agents/mine",
        "sealed",
        "mounted",
        "locked",
    ], done.stderr
    assert (state / "agents" / "mine" / "note").read_text() == (outside / "note").read_text() == "kept\n"
    assert not (state / "mine.sock").exists()


REACH = """
import os, socket, sys
for name in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(name)
        print("reached", os.path.basename(name))
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_who_would_start_a_program_for_the_user_outside_of_every_session_is_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = tier_or_skip("A")
    runtime, tmux = tmp_path / "the runtime", tmp_path / f"tmux-{os.geteuid()}"
    (runtime / "systemd").mkdir(parents=True)
    tmux.mkdir()
    names = [str(place) for place in (runtime / "bus", runtime / "systemd" / "private", tmux / "default")]
    other = str(runtime / "ssh-agent")
    script = tmp_path / "reach.py"
    script.write_text(REACH)
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "link" / runtime.name))
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path / "link"))
    with ExitStack() as stack:
        for name in [*names, other]:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(name)
            listening.listen()
        done = run(tier, f'exec {sys.executable} -S {script} "$@"', tmp_path, *names, other)
    assert done.stdout.splitlines() == [
        "ConnectionRefusedError",
        "FileNotFoundError",
        "FileNotFoundError",
        "reached ssh-agent",
    ], done.stderr


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_an_agent_of_root_makes_no_device_through_which_the_hidden_could_be_read(tmp_path: Path) -> None:
    tier = tier_or_skip("A")
    done = run(tier, "mknod disk b 7 0 2> /dev/null || echo refused; mkfifo pipe && echo made", tmp_path)
    assert done.stdout.splitlines() == ["refused", "made"], done.stderr


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_a_project_below_the_hidden_directory_stays_visible(tmp_path: Path) -> None:
    tier = tier_or_skip("A")
    project = tmp_path / "state" / "work" / "project"
    project.mkdir(parents=True)
    (tmp_path / "state" / "other").touch()
    done = run(tier, f"pwd; ls {tmp_path}/state", tmp_path, hidden=tmp_path / "state", working_tree=project)
    assert done.stdout.splitlines() == [str(project), "work"]


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_a_link_in_place_of_a_directory_opens_nothing_that_is_hidden(tmp_path: Path) -> None:
    state, project = tmp_path / "state", tmp_path / "project"
    for name in ("agents", "git", "run", "work"):
        (state / name).mkdir(parents=True)
    for target in (state / "agents", state / "run", state / "work", state):
        project.symlink_to(target)
        with pytest.raises(NotADirectoryError):
            working_tree_of(project)
        view = launcher_environment(ENVIRONMENT, hidden=[hidden_place(state)], folder=None, working_tree=project)
        assert view[WORK] == "", "that it lay outside when it was given is what counts"
        project.unlink()
    inner = state / "work" / "project"
    inner.symlink_to(state / "agents")
    for work in (inner, state / "agents", state / "run" / "x", state / "git"):
        with pytest.raises(NotADirectoryError):
            launcher_environment(ENVIRONMENT, hidden=[hidden_place(state)], working_tree=work)
    with pytest.raises(NotADirectoryError):
        launcher_environment(ENVIRONMENT, hidden=[hidden_place(state)], folder=inner)


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_a_launcher_that_somebody_has_changed_is_written_anew(tmp_path: Path) -> None:
    program = tmp_path / "program"
    path = write_launcher(tmp_path / "run", program)
    text = path.read_text()
    path.write_text(f"{text}touch {tmp_path}/owned\n")
    assert write_launcher(tmp_path / "run", program).read_text() == text
    path.unlink()
    path.symlink_to(program)
    assert write_launcher(tmp_path / "run", program).read_text() == text
    assert not program.exists()


def test_a_session_in_a_delegated_cgroup_ends_with_it(tmp_path: Path, leavers: Leavers) -> None:
    place = cgroups.delegated_cgroup(HYBRID)
    if place is None:
        pytest.skip("no cgroup is delegated to this user")
    tier = Tier(letter="B", guarantee="", prefix=("/bin/sh", "-c", cgroups.JOIN_SCRIPT, str(place)))
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{leavers.command}\nsleep 300\n")
    program.chmod(0o700)
    variables = {**os.environ, **launcher_environment(ENVIRONMENT, marker=f"test{os.getpid()}")}
    with subprocess.Popen(
        [write_launcher(tmp_path / "launchers", program, tier)], env=variables, stdin=subprocess.PIPE
    ) as process:
        leavers.wait_all()
        cgroup = cgroups.cgroup_of(process.pid, HYBRID)
        assert Path(cgroup).name == variables[UNIT]
        process.kill()  # the shim: what it would have ended is the cgroup's now
        reap([ProcessIdentity(cgroup=cgroup)])
        leavers.wait_gone()
        assert not Path(cgroup).exists()


@pytest.mark.requirement("agent:self:sockets-of-others-hidden")
def test_programs_that_listen_for_each_other_do_so_in_a_directory_of_each_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = tier_or_skip("A")
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "link"))
    there, missing = tmp_path / "test-there", tmp_path / f"test-missing-{os.geteuid()}"
    there.mkdir()
    script = tmp_path / "reach.py"
    script.write_text(REACH)
    program = tmp_path / "program"
    words = f"touch {missing}/own.sock && exec {sys.executable} -S {script} {there}/1.sock {missing}/2.sock"
    program.write_text(f"#!/bin/sh\n{words}\n")
    program.chmod(0o700)
    start = write_launcher(tmp_path / "launchers", program, tier, (), ("test-there", "test-missing-{uid}"))
    with ExitStack() as stack:
        for place in (there / "1.sock", missing / "2.sock"):  # the launcher has made the directory of the second
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(str(place))
            listening.listen()
        done = subprocess.run(
            [start],
            env={**os.environ, **launcher_environment(ENVIRONMENT)},
            stdin=subprocess.PIPE,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.splitlines() == ["FileNotFoundError"] * 2, done.stderr
    assert not (missing / "own.sock").exists()
    for parent in ("/tmp", f"/run/user/{os.geteuid()}"):
        for name in (there.name, missing.name):
            with suppress(OSError):
                Path(parent, name).rmdir()


@pytest.mark.requirement("agent:self:sockets-of-others-hidden")
def test_the_places_are_those_where_the_real_program_listens() -> None:
    program = bundled_program()
    assert program is not None
    words = program.read_bytes()
    for name in SOCKET_FOLDERS:
        start = name.partition("{")[0].encode()
        assert any(quote + start in words for quote in (b'"', b"`", b"/")), f"the program has no {name} any more"
    assert Path("/run/user", str(os.geteuid()), "cc-socks") in private_places({}, SOCKET_FOLDERS)
    assert Path("/mine/cc-socks") in private_places({"TMPDIR": "/mine"}, SOCKET_FOLDERS)


@pytest.mark.anyio
@pytest.mark.requirement("agent:self:state-stays-in-place")
async def test_nothing_starts_while_another_directory_is_in_the_place_of_a_hidden_one(tmp_path: Path) -> None:
    state, away = tmp_path / "state", tmp_path / "away"
    state.mkdir()
    place = hidden_place(state)
    await wait_in_place([place])
    state.rename(away)
    state.mkdir()
    waiting = asyncio.create_task(wait_in_place([place]))
    early, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not early
    state.rmdir()
    state.symlink_to(away)  # the same directory at another real path: what is above it would be another's to move
    assert not place.is_in_place
    state.unlink()
    away.rename(state)
    await asyncio.wait_for(waiting, timeout=30)
