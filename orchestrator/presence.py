"""Shows whether an orchestrator's door lives, also while no daemon runs: each door holds a lock until its process ends.

All locks are on one file, one byte for each orchestrator, so nothing is left to clean up. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from pathlib import Path

_FILE = "doors.lock"
_TRIES = 100
_PAUSE_SECONDS = 0.01


def hold(state: Path, orchestrator: str) -> None:
    """Show until this process ends that a door of this orchestrator lives; an orchestrator may have several doors.

    On a file system without locks, or where another process keeps the byte for a second, it shows nothing: then a door
    counts as living only while it is connected.
    """
    try:
        place = os.open(state / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # stays open: closing it unlocks
    except OSError:
        return
    try:
        _share(place, _byte_of(orchestrator))
    except OSError:
        os.close(place)


def _share(place: int, byte: int) -> None:
    """Lock the byte, or give up after a second: a look holds it for microseconds, and no door may hang."""
    for _ in range(_TRIES - 1):
        try:
            return fcntl.lockf(place, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, byte)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)  # locks of files have no event
    return fcntl.lockf(place, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, byte)


def is_held(state: Path, orchestrator: str) -> bool:
    """Return whether a door of this orchestrator lives; also if that cannot be found out."""
    try:
        place = os.open(state / _FILE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.lockf(place, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _byte_of(orchestrator))
    except OSError:
        return True
    finally:
        os.close(place)
    return False


def _byte_of(orchestrator: str) -> int:
    return zlib.crc32(orchestrator.encode("utf-8", "surrogateescape"))
