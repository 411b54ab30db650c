"""Counts the results from the model's own log, the store, git and /proc, not from what the fleet reports."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.load import Ledger
from tests.chaos.place import Place
from tests.chaos.watch import Watch

TERMINAL = "('turn.complete', 'turn.failed', 'turn.interrupted', 'turn.cancelled')"
TURNS = "SELECT name, prompt, turn.status, result, turn.reason, detail FROM turn JOIN agent ON agent.id = turn.agent_id"
TOKEN = re.compile(r"do (t[0-9]+)")


@dataclass
class Tally:
    """What is counted; every list holds readable findings."""

    accepted: int = 0
    finished: int = 0
    lost: list[str] = field(default_factory=list[str])
    double: list[str] = field(default_factory=list[str])
    leases: list[str] = field(default_factory=list[str])
    processes: list[str] = field(default_factory=list[str])
    untrue: list[str] = field(default_factory=list[str])

    def line(self, kills: int) -> str:
        """The last line."""
        return (
            f"chaos: kills={kills} accepted={self.accepted} finished={self.finished} lost={len(self.lost)} "
            f"double={len(self.double)} processes_left={len(self.processes)} leases_left={len(self.leases)} "
            f"untrue_status={len(self.untrue)}"
        )

    @property
    def is_clean(self) -> bool:
        """Whether nothing that must be 0 is more."""
        return not (self.lost or self.double or self.processes or self.leases or self.untrue)

    def findings(self) -> list[str]:
        """All of them, one line each."""
        named = {
            "lost": self.lost,
            "double": self.double,
            "left": self.processes,
            "lease": self.leases,
            "untrue": self.untrue,
        }
        return [f"{name}: {finding}" for name, found in named.items() for finding in found]


def taken(place: Place, ledger: Ledger, watch: Watch) -> Tally:
    """Count what the store, the model's log and the watchers know, with the daemon gone or about to go."""
    tally = Tally()
    _turns(place, ledger, tally)
    _ends(place, tally)
    _work_after_the_end(place, tally)
    _statuses(place, tally)
    _checks(place, tally)
    tally.double += [f"session {session} had two programs at once" for session in sorted(watch.doubles)]
    tally.untrue += sorted(watch.lies)
    _leases(place, tally)
    return tally


def _turns(place: Place, ledger: Ledger, tally: Tally) -> None:
    """Every promise is one turn, complete, with its own answer; the answer came from the model."""
    rows = place.rows(TURNS)
    by_token: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        for token in TOKEN.findall(row[1]):
            by_token.setdefault(token, []).append(row)
    said = {token for record in _calls(place) for token in TOKEN.findall(str(record.get("task")))}
    tally.accepted = len(ledger.promises)
    for promise in ledger.promises:
        found = by_token.get(promise.token, [])
        if len(found) > 1:
            tally.double.append(f"{promise.token} of {promise.agent} stands in {len(found)} turns")
        if len(found) == 1 and found[0][2] == "complete" and promise.token in found[0][3] and promise.token in said:
            tally.finished += 1
            continue
        shown = [(row[2], row[4], row[3][:40], row[5]) for row in found]
        tally.lost.append(f"{promise.token} of {promise.agent}: {shown or 'no turn'}")


def _checks(place: Place, tally: Tally) -> None:
    """No turn is called complete whose last receipts do not say so."""
    passed = "coalesce(json_extract(checked, '$[#-1].passed'), 0)"
    query = f"SELECT id FROM turn WHERE status = 'complete' AND json_array_length(checks) > 0 AND NOT {passed}"
    tally.untrue += [f"turn {turn} is complete without its checks" for (turn,) in place.rows(query)]


def _ends(place: Place, tally: Tally) -> None:
    """Exactly one terminal event for every turn."""
    query = (
        "SELECT turn.id, turn.status, (SELECT count(*) FROM event WHERE event.agent_id = turn.agent_id "
        f"AND event.turn = turn.ordinal AND kind IN {TERMINAL}) FROM turn"
    )
    for turn, status, ends in place.rows(query):
        if ends > 1:
            tally.double.append(f"turn {turn} has {ends} ends")
        elif ends == 0:
            tally.lost.append(f"turn {turn} has no end: {status}")


def _work_after_the_end(place: Place, tally: Tally) -> None:
    """Nobody asks the model about a turn that has ended before."""
    query = (
        "SELECT turn.prompt, event.at FROM turn JOIN event ON event.agent_id = turn.agent_id "
        f"AND event.turn = turn.ordinal WHERE event.kind IN {TERMINAL}"
    )
    ended: dict[str, float] = {token: at for prompt, at in place.rows(query) for token in TOKEN.findall(prompt)}
    late = Counter(
        token
        for record in _calls(place)
        for token in TOKEN.findall(str(record.get("task")))
        if token in ended and float(str(record["time"])) > ended[token]
    )
    tally.double += [f"{token}: {number} calls of the model after its end" for token, number in late.items()]


def _calls(place: Place) -> list[dict[str, object]]:
    return [record for record in place.model.log() if record.get("status") == 200]


def _statuses(place: Place, tally: Tally) -> None:
    """At the end the statuses are those of the turns."""
    query = "SELECT name, status FROM agent WHERE status IN ('working', 'queued', 'waiting', 'creating')"
    tally.untrue += [f"{name} is {status} at the end" for name, status in place.rows(query)]


def _leases(place: Place, tally: Tally) -> None:
    rows = place.rows("SELECT kind, lease.name FROM lease WHERE released_at IS NULL")
    tally.leases += [f"{kind} {name}" for kind, name in rows]
    tally.leases += [str(path) for path in place.project.rglob("*.lock") if ".git" in path.parts]
    listed = subprocess.run(
        ["git", "worktree", "list", "--porcelain"], cwd=place.project, capture_output=True, text=True, check=True
    )
    tally.leases += [line for line in listed.stdout.splitlines() if line.startswith("worktree ")][1:]


def shown(tally: Tally, kills: dict[str, int]) -> str:
    """What was killed, and what was found, for a reader."""
    return "\n".join([f"killed: {json.dumps(kills)}", *tally.findings()])
