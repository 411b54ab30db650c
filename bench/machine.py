"""Reads what processes use on this machine: memory as PSS, CPU of whole process trees (Linux)."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from pathlib import Path

import psutil

MEGA = 2.0**20


def facts() -> dict[str, object]:
    """What figures depend on; no name and no path."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": _cpu_model(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def load() -> float:
    """The load average of the last minute: how busy everybody keeps the machine."""
    return round(os.getloadavg()[0], 2)


def tree(pid: int) -> list[int]:
    """The process and all that descend from it."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


def programs(name: str) -> set[int]:
    """The processes that run a program of this name, whoever started them."""
    return {process.pid for process in psutil.process_iter() if _program(process) == name}


def _program(process: psutil.Process) -> str:
    try:
        return Path(process.exe()).name
    except psutil.Error:
        return ""


def pss_mb(pids: Collection[int], *, kind: str = "Pss") -> float:
    """Proportional set size of these processes together, in MiB: shared pages count once.

    With `kind="Pss_Anon"` without files, whose share depends on what else runs here: for differences.
    """
    return sum(_pss_kb(pid, kind) for pid in pids) / 1024


def _pss_kb(pid: int, kind: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:  # a daemon or a shim, to anybody but root: all of its pages instead of its share
        return psutil.Process(pid).memory_info().rss // 1024
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")), 0)


def cpu_seconds(pid: int) -> float:
    """CPU time of the process and its descendants, those that ended and were waited for included."""
    return sum(map(_cpu_seconds, tree(pid)))


def own_cpu_seconds(pid: int) -> float:
    """CPU time of the process alone."""
    return sum(psutil.Process(pid).cpu_times()[:2])


def _cpu_seconds(pid: int) -> float:
    try:
        return sum(psutil.Process(pid).cpu_times()[:4])
    except psutil.NoSuchProcess:
        return 0.0
