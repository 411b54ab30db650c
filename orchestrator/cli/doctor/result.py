"""The result of one check of `fleet doctor`."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class ProbeResult:
    """The result of one check; `hint` says what to do about it."""

    name: str
    level: str
    text: str
    hint: str = ""
