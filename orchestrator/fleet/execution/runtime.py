"""What every attempt needs from the daemon that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.delegation import Delegation
from orchestrator.providers.base import Provider
from orchestrator.settings import Settings
from orchestrator.supervision.command import LaunchConfig


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The parts of the daemon that execution uses, built in app.py."""

    work: UnitOfWork
    settings: Settings
    state: Path
    providers: Mapping[str, Provider]
    delegation: Delegation
    launch: LaunchConfig
    """how checks are started"""
    tier: str
    """letter of the sessions' supervision tier, '' if they have no processes"""
