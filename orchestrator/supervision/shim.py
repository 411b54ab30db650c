"""Runs one program so that no descendant of it outlives the program or the process that started this shim.

Called as `python -IS shim.py PROGRAM ARGUMENT…`; standard library only, because it starts with every session.

- It is the subreaper of everything that the program starts, even if detached, and exits only when nothing is left
  (Linux).
- Its lifeline is its standard input, which the program reads and the shim only watches: when the other end closes
  (the starter closed it, or died), the program has `GRACE_SECONDS` to exit by itself.
- The program gets exactly the environment in `FLEET_SHIM_ENVIRONMENT`, so nothing of the starter's or of the launcher's
  reaches it.
- The program runs at a lower priority than its starter, with the umask of who created the agent.
- Standard error passes through; if a signal killed the program, the shim reports that there.

Without Linux's prctl (macOS) the shim kills the program's process group, and detached descendants escape.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping

ENVIRONMENT = "FLEET_SHIM_ENVIRONMENT"
UMASK = b"FLEET_UMASK"
"""in the program's environment: the umask with which it starts, in octal; the program does not see the variable"""
GRACE_SECONDS = 3.0
"""How long the program may take to exit after its lifeline has closed or after SIGTERM, before it is killed."""
POLITE_SECONDS = 1.0
"""After this time the program gets SIGTERM: in the middle of a tool it would otherwise call the model (measured)."""
KILL_SECONDS = 10.0
NICENESS = 5
"""Gives the program a third of a normal program's processor time on a busy machine (Linux; ADR 27)."""
POLL_MILLISECONDS = 50
AUTOGROUP_MILLISECONDS = 100
"""The kernel accepts one change of an autogroup per this interval from all unprivileged processes together."""
CANNOT_RUN = 127
BY_SIGNAL = 128

_SUBREAPER, _PDEATHSIG, _DUMPABLE = 36, 1, 4
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def encode_environment(environment: Mapping[str, str]) -> str:
    """The environment encoded as one value of a variable."""
    pairs = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in environment.items()]
    return b2a_base64(b"\0".join(pairs), newline=False).decode("ascii")


def decode_environment(text: str) -> dict[bytes, bytes]:
    """The environment that `encode_environment` encoded."""
    pairs = [pair.partition(b"=") for pair in a2b_base64(text).split(b"\0") if pair]
    return {name: value for name, _, value in pairs}


def _prctl(option: int, value: int) -> bool:
    """Call prctl; return whether it succeeded (never without Linux)."""
    if sys.platform != "linux":
        return False
    import ctypes

    return ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0


def make_opaque() -> None:
    """Keep other processes of this user from reading this process's memory and environment and from tracing it."""
    _prctl(_DUMPABLE, 0)


def _start(command: list[str], environment: dict[bytes, bytes]) -> int:
    """Start the program in its own session and return its process id."""
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        for number in (*_FORWARDED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _prctl(_PDEATHSIG, signal.SIGKILL)
        _lower_priority()
        _set_umask(environment.pop(UMASK, b""))
        os.execve(command[0], command, environment)  # noqa: S606  # the program's own argv and environment, no shell
    except OSError as error:
        os.write(2, f"fleet-shim: cannot run {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_RUN)


def _set_umask(octal: bytes) -> None:
    """Set the umask of this process; it stays as it is if the text is not one."""
    try:
        os.umask(int(octal, 8) & 0o777)
    except ValueError:
        return


def _lower_priority() -> None:
    """Lower the priority of this process and of its session, as far as the system allows it."""
    try:
        os.nice(NICENESS)
    except OSError:
        return
    _lower_autogroup(os.getpid())


def _lower_autogroup(pid: int) -> bool:
    """Lower the priority of the session that the process leads; false if that must be tried again later.

    Linux may divide processor time between sessions (autogroups) first and then within each session; niceness alone
    then has no effect between an agent and other programs.
    """
    try:
        if os.getsid(pid) != pid:  # it has not called setsid yet: this would lower the shim's own session
            return False
        file = os.open(f"/proc/{pid}/autogroup", os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # not Linux, a kernel without autogroups, or the program has exited
        return True
    try:
        if not os.read(file, 100).endswith(b"nice %d\n" % NICENESS):
            os.write(file, b"%d" % NICENESS)
    except BlockingIOError:
        return False
    except OSError:  # the kernel does not allow it: niceness remains
        return True
    finally:
        os.close(file)
    return True


class _ProcessTree:
    """The program and all its descendants."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def reap(self) -> bool:
        """Reap ended processes; false when none is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.code = os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """Kill every descendant that is visible now; those forked meanwhile need another round."""
        for pid in descendants(os.getpid()):
            _send_signal(pid, signal.SIGKILL)
        if sys.platform != "linux":
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except OSError:
                return


def _send_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def descendants(root: int) -> list[int]:
    """Process ids below `root`; empty without /proc."""
    found: list[int] = []
    pending = [root]
    while pending:
        below = children(pending.pop())
        found += below
        pending += below
    return found


def children(pid: int) -> list[int]:
    """Process ids of the children, the oldest first and adopted ones last; empty without /proc."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # pathlib would cost its import at each start
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123  # as above
                found += map(int, file.read().split())
    except OSError:
        return found
    return found


class _EventWatch:
    """Waits for the end of standard input (the lifeline), for signals, and for exited children."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self.sigterm_received = False
        self.stdin_closed = False
        self._wake = reader
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, self._on_term)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._poll = select.poll()
        self._poll.register(0, 0)
        self._poll.register(reader, select.POLLIN)

    def _on_term(self, _number: int, _frame: object) -> None:
        self.sigterm_received = True

    def wait(self, milliseconds: int | None) -> None:
        """Return at the next event, or after the time-out."""
        for descriptor, event in self._poll.poll(milliseconds):
            if descriptor == self._wake:
                os.read(self._wake, 4096)
            elif event:
                self.stdin_closed = True
                self._poll.unregister(0)


def _wait_for_program(tree: _ProcessTree, events: _EventWatch) -> None:
    """Return when the program has exited or its grace time is over."""
    is_settled = False
    while tree.code is None and not events.stdin_closed and not events.sigterm_received:
        events.wait(None if is_settled else AUTOGROUP_MILLISECONDS)
        is_settled = is_settled or _lower_autogroup(tree.pid)  # before the program is reaped: its id is not reused yet
        tree.reap()
    if events.sigterm_received:
        _send_signal(tree.pid, signal.SIGTERM)
    started_at, was_signalled = time.monotonic(), events.sigterm_received
    while tree.code is None and time.monotonic() - started_at < GRACE_SECONDS:
        events.wait(POLL_MILLISECONDS)
        tree.reap()
        if not was_signalled and tree.code is None and time.monotonic() - started_at > POLITE_SECONDS:
            was_signalled = True
            _send_signal(tree.pid, signal.SIGTERM)


def _kill_remaining(tree: _ProcessTree) -> None:
    """Kill until nothing is left; give up after 10 s on processes that cannot be killed (another user's)."""
    started_at, rounds = time.monotonic(), 0
    while tree.reap() and time.monotonic() - started_at < KILL_SECONDS:
        tree.kill()
        rounds += 1
        time.sleep(min(0.0005 * rounds, 0.02))


def main(command: list[str]) -> int:
    """Run the command until it exits and return its exit code; 128 + the signal's number if a signal killed it."""
    environment = decode_environment(os.environ.get(ENVIRONMENT, ""))
    if os.getpgrp() != os.getpid():
        os.setsid()
    _prctl(_SUBREAPER, 1)
    events = _EventWatch()
    tree = _ProcessTree(_start(command, environment))
    make_opaque()  # what the program starts cannot take the shim's descriptors or change its arguments
    _wait_for_program(tree, events)
    was_running = tree.code is None
    _kill_remaining(tree)
    code = BY_SIGNAL + signal.SIGKILL if tree.code is None else tree.code
    if code < 0:
        if not was_running:
            os.write(2, f"fleet-shim: the program was killed by {signal.Signals(-code).name}\n".encode())
        code = BY_SIGNAL - code
    return code


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
