"""`make conformance`: the official MCP suite, on both wires, against Fleet's wire with fixtures and Fleet itself.

The suite and the Node.js that it needs are installed from npm into a folder that git ignores.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TOOLS = ROOT / ".conformance"
PACKAGES = ("node@22", "@modelcontextprotocol/conformance@0.2.0-alpha.12")
WIRES = ("2026-07-28", "2025-11-25")
KINDS = ("fixtures", "fleet")
PASSED = frozenset({"SUCCESS", "INFO", "SKIPPED", "WARNING"})
LIMIT_SECONDS = 300.0


def install() -> list[str]:
    """The suite's command, installed if it is not."""
    suite = TOOLS / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    node = TOOLS / "node_modules" / ".bin" / "node"
    if not (suite.exists() and node.exists()):
        TOOLS.mkdir(exist_ok=True)
        quiet = ["--no-audit", "--no-fund", "--no-save", "--no-package-lock", "--loglevel=error"]
        subprocess.run(["npm", "install", "--prefix", str(TOOLS), *quiet, *PACKAGES], cwd=TOOLS, check=True)
    return [str(node), str(suite)]


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


def play(suite: list[str], url: str, wire: str) -> dict[str, list[str]]:
    """What the suite found on this wire: of each scenario the checks that failed."""
    with tempfile.TemporaryDirectory(prefix="fleet-conformance-") as place:
        command = [*suite, "server", "--url", url, "--requirements", wire, "-o", place]
        subprocess.run(command, cwd=place, stdout=subprocess.DEVNULL, check=False, timeout=LIMIT_SECONDS)
        return dict(_found(Path(place)))


def _found(place: Path) -> Iterable[tuple[str, list[str]]]:
    for folder in sorted(place.glob("server-*")):
        name = re.sub(r"-\d{4}-\d\d-\d\dT.*", "", folder.name.removeprefix("server-"))
        checks = cast("list[Mapping[str, Any]]", json.loads((folder / "checks.json").read_text()))
        yield name, [str(check["id"]) for check in checks if check["status"] not in PASSED]


def expected(kind: str) -> dict[str, str]:
    """The scenarios that may fail, each with the reason; Fleet itself has the reasons of its wire, too."""
    read = cast("Callable[[Path], dict[str, list[dict[str, Any]]]]", YAML(typ="safe").load)  # pyright: ignore[reportUnknownMemberType] - ruamel leaves it untyped
    written = read(HERE / "baseline.yaml")
    reasons = [*written["fixtures"], *(written["fleet"] if kind == "fleet" else [])]
    return {str(name): str(reason["why"]) for reason in reasons for name in reason["scenarios"]}


def judge(found: Mapping[str, list[str]], known: Mapping[str, str]) -> list[str]:
    """What differs from the baseline."""
    new = [f"{name} fails: {', '.join(checks)}" for name, checks in found.items() if checks and name not in known]
    stale = [f"{name} passes now: take it out of the baseline" for name in known if name in found and not found[name]]
    return new + stale


def main() -> int:
    """Run everything, print a tally for each, and return 1 if anything differs from the baseline."""
    suite, wrong = install(), list[str]()
    for kind in KINDS:
        with server(kind) as url:
            for wire in WIRES:
                found, known = play(suite, url, wire), expected(kind)
                passed = sum(not checks for checks in found.values())
                differs = judge(found, known) if found else ["the suite said nothing"]
                wrong += [f"{kind} on {wire}: {line}" for line in differs]
                verdict = f"{len(differs)} differ from the baseline" if differs else "as the baseline says"
                print(f"{kind} on {wire}: {passed} of {len(found)} scenarios pass, {verdict}", flush=True)
    print("\n".join(wrong) or "conformance: as the baseline says")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
