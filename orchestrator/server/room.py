"""How many connections a listener may hold, so that no client takes the descriptors that the daemon needs to work."""

from __future__ import annotations

import resource

MAX_REFUSED = 32
"""connections that may be open at the same time only to get their refusal"""
_SHARE = 4


def room(most: int) -> int:
    """Return how many connections one listener may hold: `most`, at most a quarter of the daemon's descriptors.

    There are three listeners: the socket of doors, that of HTTP, and a port.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft // _SHARE)
