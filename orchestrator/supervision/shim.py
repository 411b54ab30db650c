"""Run one program so that none of its descendants outlives it, or outlives the process that started this shim.

Called as `python -IS shim.py PROGRAM ARGUMENT…`; standard library only, because it starts with every session.

- It is the subreaper of everything the program starts, even if detached, and ends only when none is left (Linux).
- Its lifeline is its standard input, which the program reads and the shim only watches: when the other end closes
  (the starter closed it, or died) the program has `GRACE_SECONDS` to end by itself.
- The program gets the environment that travels in `FLEET_SHIM_ENVIRONMENT` and nothing else, so that a starter whose
  library merges its own environment into the child's leaks nothing.
- Standard error passes through; if a signal killed the program, the shim says so there, for the starter to show.

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
GRACE_SECONDS = 3.0
"""Below the 5 s that the Claude Agent SDK 0.2.186 waits before it kills its child, which here is the shim."""
POLITE_SECONDS = 1.0
"""After this time the program gets SIGTERM: inside a tool it would otherwise continue and call the model (measured)."""
KILL_SECONDS = 10.0
POLL_MILLISECONDS = 50
CANNOT_RUN = 127
BY_SIGNAL = 128

_SUBREAPER, _PDEATHSIG = 36, 1
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def packed(environment: Mapping[str, str]) -> str:
    """The environment encoded as one value of a variable."""
    pairs = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in environment.items()]
    return b2a_base64(b"\0".join(pairs), newline=False).decode("ascii")


def unpacked(text: str) -> dict[bytes, bytes]:
    """The environment that `packed` encoded."""
    pairs = [pair.partition(b"=") for pair in a2b_base64(text).split(b"\0") if pair]
    return {name: value for name, _, value in pairs}


def _prctl(option: int, value: int) -> bool:
    """Call prctl; false where it does not exist."""
    if sys.platform != "linux":
        return False
    import ctypes

    return ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0


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
        os.execve(command[0], command, environment)  # noqa: S606  # the program's own argv and environment, no shell
    except OSError as error:
        os.write(2, f"fleet-shim: cannot run {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_RUN)


class _Family:
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
        """Kill every living descendant visible now; new ones need another round."""
        for pid in _descendants(os.getpid()):
            _signal(pid, signal.SIGKILL)
        if sys.platform != "linux":
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except OSError:
                return


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _descendants(root: int) -> list[int]:
    """Process ids below `root`; empty without /proc."""
    found: list[int] = []
    unseen = [root]
    while unseen:
        children = _children(unseen.pop())
        found += children
        unseen += children
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # pathlib would cost its import at each start
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:  # noqa: PTH123  # as above
                children += map(int, file.read().split())
    except OSError:
        return children
    return children


class _Lifeline:
    """Watches standard input for its end, and for signals and ended children."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self.asked_to_end = False
        self.is_cut = False
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
        self.asked_to_end = True

    def wait(self, milliseconds: int | None) -> None:
        """Return when something happened, or after the time-out."""
        for descriptor, happened in self._poll.poll(milliseconds):
            if descriptor == self._wake:
                os.read(self._wake, 4096)
            elif happened:
                self.is_cut = True
                self._poll.unregister(0)


def _watch(family: _Family, lifeline: _Lifeline) -> None:
    """Return when the program ended, or its grace time is over."""
    while family.code is None and not lifeline.is_cut and not lifeline.asked_to_end:
        lifeline.wait(None)
        family.reap()
    if lifeline.asked_to_end:
        _signal(family.pid, signal.SIGTERM)
    began, was_told = time.monotonic(), lifeline.asked_to_end
    while family.code is None and time.monotonic() - began < GRACE_SECONDS:
        lifeline.wait(POLL_MILLISECONDS)
        family.reap()
        if not was_told and family.code is None and time.monotonic() - began > POLITE_SECONDS:
            was_told = True
            _signal(family.pid, signal.SIGTERM)


def _clear(family: _Family) -> None:
    """Kill until nothing is left; give up after a while on what may not be killed (another user's process)."""
    began, rounds = time.monotonic(), 0
    while family.reap() and time.monotonic() - began < KILL_SECONDS:
        family.kill()
        rounds += 1
        time.sleep(min(0.0005 * rounds, 0.02))


def main(command: list[str]) -> int:
    """Run the command to its end and return its exit code, 128 + the signal's number if it died of one."""
    environment = unpacked(os.environ.get(ENVIRONMENT, ""))
    if os.getpgrp() != os.getpid():
        os.setsid()
    _prctl(_SUBREAPER, 1)
    lifeline = _Lifeline()
    family = _Family(_start(command, environment))
    _watch(family, lifeline)
    was_running = family.code is None
    _clear(family)
    code = BY_SIGNAL + signal.SIGKILL if family.code is None else family.code
    if code < 0:
        if not was_running:
            os.write(2, f"fleet-shim: the program was killed by {signal.Signals(-code).name}\n".encode())
        code = BY_SIGNAL - code
    return code


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
