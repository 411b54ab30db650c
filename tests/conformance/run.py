"""`make conformance`: the official MCP suite, on both wires, against Fleet's wire with fixtures and Fleet itself.

The suite, the Inspector (tests/hosts) and the Node.js that they need come from npm into a folder that git ignores.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOLS = ROOT / ".conformance"
PACKAGES = ("node@22", "@modelcontextprotocol/conformance@0.2.0-alpha.12", "@modelcontextprotocol/inspector@2.12.0")
WIRES = ("2026-07-28", "2025-11-25")
KINDS = ("fixtures", "fleet")
PASSED = frozenset({"SUCCESS", "INFO"})
"""a warning or a check that was skipped needs its reason in the baseline, as a failure does"""
BECAUSE = frozenset({"suite", "not applicable", "no fixture"})
LIMIT_SECONDS = 300.0


def suite() -> list[str] | None:
    """The suite's command, None if it or the Inspector is not installed."""
    program = TOOLS / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    node, inspector = (TOOLS / "node_modules" / ".bin" / name for name in ("node", "mcp-inspector"))
    return [str(node), str(program)] if all(path.exists() for path in (program, node, inspector)) else None


def install() -> list[str]:
    """The suite's command, installed if it is not; without npm the program ends with a sentence."""
    if suite() is None:
        if shutil.which("npm") is None:
            sys.exit(
                "fleet: make conformance needs npm on PATH: install Node.js (on Debian and Ubuntu: apt install npm)"
            )
        TOOLS.mkdir(exist_ok=True)
        quiet = ["--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--loglevel=error"]
        subprocess.run(["npm", "install", "--prefix", str(TOOLS), *quiet, *PACKAGES], cwd=TOOLS, check=True)
    found = suite()
    assert found is not None, f"npm has not installed {', '.join(PACKAGES)}"
    return found


@contextmanager
def server(kind: str) -> Generator[str]:
    """The address of a server under test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.conformance.server", kind],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "HOME": tempfile.gettempdir()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield str(json.loads(process.stdout.readline())["url"])
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@dataclass(frozen=True)
class Scenario:
    """What the suite said of one scenario: how many checks it made, and the names of those that did not pass."""

    checks: int
    failed: frozenset[str]


Found = Mapping[str, Scenario]
Known = Mapping[str, frozenset[str]]


def play(command: list[str], url: str, wire: str) -> Found:
    """What the suite found on this wire, by scenario."""
    with tempfile.TemporaryDirectory(prefix="fleet-conformance-") as place:
        whole = [*command, "server", "--url", url, "--requirements", wire, "-o", place]
        subprocess.run(whole, cwd=place, stdout=subprocess.DEVNULL, check=False, timeout=LIMIT_SECONDS)
        return dict(_found(Path(place)))


def _found(place: Path) -> Iterable[tuple[str, Scenario]]:
    for folder in sorted(place.glob("server-*")):
        name = re.sub(r"-\d{4}-\d\d-\d\dT.*", "", folder.name.removeprefix("server-"))
        checks = cast("list[Mapping[str, Any]]", json.loads((folder / "checks.json").read_text()))
        failed = frozenset(str(check["id"]) for check in checks if check["status"] not in PASSED)
        yield name, Scenario(len(checks), failed)


def expected(kind: str) -> Known:
    """By scenario the checks that may fail; each stands in the baseline with its reason."""
    read = cast("Callable[[Path], dict[str, list[dict[str, Any]]]]", YAML(typ="safe").load)  # pyright: ignore[reportUnknownMemberType] - ruamel leaves it untyped
    known: dict[str, frozenset[str]] = {}
    for reason in read(HERE / "baseline.yaml")[kind]:
        assert reason["because"] in BECAUSE, reason
        assert reason["why"], reason
        for name, checks in reason["checks"].items():
            known[name] = known.get(name, frozenset()) | frozenset(checks)
    return known


def judge(found: Found, known: Known) -> list[str]:
    """What differs from the baseline, check by check."""
    differs: list[str] = []
    for name, scenario in found.items():
        allowed = known.get(name, frozenset())
        differs += [f"{name}: {check} fails" for check in sorted(scenario.failed - allowed)]
        differs += [
            f"{name}: {check} passes, take it out of the baseline" for check in sorted(allowed - scenario.failed)
        ]
    return differs


def main() -> int:
    """Run everything, print a tally for each, and return 1 if anything differs from the baseline."""
    command, wrong = install(), list[str]()
    for kind in KINDS:
        with server(kind) as url:
            for wire in WIRES:
                found = play(command, url, wire)
                passed = sum(not scenario.failed for scenario in found.values())
                checks = sum(scenario.checks for scenario in found.values())
                failed = sum(len(scenario.failed) for scenario in found.values())
                differs = judge(found, expected(kind)) if found else ["the suite said nothing"]
                wrong += [f"{kind} on {wire}: {line}" for line in differs]
                verdict = f"{len(differs)} differ from the baseline" if differs else "as the baseline says"
                tally = f"{passed} of {len(found)} scenarios pass, {failed} of {checks} checks do not"
                print(f"{kind} on {wire}: {tally}, {verdict}", flush=True)
    print("\n".join(wrong) or "conformance: as the baseline says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
