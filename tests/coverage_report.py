"""Runs the tests and prints line and branch coverage per package: `python -m tests.coverage_report`.

Arguments go to pytest. Every Python process that uses this virtual environment is measured, the daemons, doors and
commands that tests start included; agents' programs and their shims, which start without site packages, are not.
There is no gate: the exit code is that of the tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / ".coverage" / "data"
HOOK = Path(sysconfig.get_path("purelib")) / "fleet_tests_coverage.pth"
START = (
    "import coverage, os; "
    "os.environ['COVERAGE_PROCESS_START'] = {config!r}; os.environ['COVERAGE_FILE'] = {data!r}; "
    "coverage.process_startup(); "
    "del os.environ['COVERAGE_PROCESS_START'], os.environ['COVERAGE_FILE']\n"
)
"""A line of a `.pth` file, because tests start their programs with an environment of their own."""
COVERAGE = (sys.executable, "-m", "coverage")
COUNTS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def measure(arguments: list[str]) -> int:
    """Run pytest with every process measured; its exit code."""
    shutil.rmtree(DATA.parent, ignore_errors=True)
    DATA.parent.mkdir()
    HOOK.write_text(START.format(config=str(ROOT / "pyproject.toml"), data=str(DATA)))
    try:
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode
    finally:
        HOOK.unlink()


def counted() -> Mapping[str, Mapping[str, int]]:
    """The counts of every package, and of all together, from the data of all processes."""
    report = DATA.with_name("report.json")
    # tests have programs of their own run, of which nothing is left: errors about their sources are ignored
    for command in (["combine", "--quiet"], ["json", "--quiet", "--ignore-errors", "-o", str(report)]):
        subprocess.run([*COVERAGE, *command, f"--data-file={DATA}"], cwd=ROOT, check=True)
    packages: defaultdict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    for name, file in json.loads(report.read_text())["files"].items():
        for package in ("/".join(Path(name).parent.parts[:2]), "all"):
            for count in COUNTS:
                packages[package][count] += file["summary"][count]
    return packages


def share(part: int, whole: int) -> str:
    """A percentage, or a dash where there is nothing to cover."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def main() -> int:
    """Run the tests, print the table, exit as the tests did."""
    code = measure(sys.argv[1:])
    print(f"\n{'package':<28}{'lines':>10}{'covered':>10}{'branches':>10}{'covered':>10}")
    packages = counted()
    for name in sorted(packages, key=lambda name: (name == "all", name)):
        lines_run, lines, branches_run, branches = (packages[name][count] for count in COUNTS)
        print(f"{name:<28}{lines:>10}{share(lines_run, lines):>10}{branches:>10}{share(branches_run, branches):>10}")
    return code


if __name__ == "__main__":
    sys.exit(main())
