"""Accounts: whose key or login pays for an agent. Secrets are kept in memory only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.domain.agent import Account
from orchestrator.domain.tool import Caller
from orchestrator.paths import SSH_AGENT, is_secret

WITHOUT_KEY = "open-"
"""ids of accounts without a secret (a login in the user's files, a cloud profile)"""
WITH_KEY = "key-"
"""ids of accounts whose key or token a door must bring"""
ID_CHARACTERS = 16
KEPT_SSH_AGENTS = 8
"""for each project"""


@dataclass
class Accounts:
    """The secrets that doors have brought since this daemon started."""

    _secrets: dict[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]], repr=False)
    _ssh_agents: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """the sockets of ssh-agents that callers of each project have brought, the latest first"""

    def bring(self, caller: Caller) -> Account:
        """Remember the caller's secrets, passed variables and ssh-agent, and return its account."""
        both = {**caller.environment, **caller.account}
        secrets = {name: value for name, value in both.items() if is_secret(name, value)}
        account = Account(
            id=_id(caller, secrets),
            public={name: value for name, value in caller.account.items() if name not in secrets},
            environment={name: value for name, value in caller.environment.items() if name not in secrets},
        )
        if secrets or caller.passed:
            self._secrets[account.id] = {**secrets, **caller.passed}
        if agent := caller.environment.get(SSH_AGENT):
            others = [other for other in self._ssh_agents.get(caller.project, ()) if other != agent]
            self._ssh_agents[caller.project] = (agent, *others[: KEPT_SSH_AGENTS - 1])
        return account

    def payable(self) -> Callable[[str], bool]:
        """Return a rule that says whether an agent of an account can start: its secrets are known, or it needs none."""
        known = frozenset(self._secrets)
        return lambda account_id: account_id.startswith(WITHOUT_KEY) or account_id in known

    def secrets(self, account_id: str) -> Mapping[str, str]:
        """Return the account's secrets; empty if it needs none."""
        return self._secrets.get(account_id, {})

    def ssh_agent(self, project: str, created_with: str | None) -> str | None:
        """Return the socket of the ssh-agent that a caller of this project brought last, among those that exist.

        A daemon outlives terminals and their ssh-agents, so the one that the agent was `created_with` comes last.
        """
        brought = (*self._ssh_agents.get(project, ()), created_with)
        return next((path for path in brought if path and _is_socket(path)), None)


def _is_socket(path: str) -> bool:
    try:
        return Path(path).is_socket()
    except (OSError, ValueError):
        return False


def _id(caller: Caller, secrets: Mapping[str, str]) -> str:
    """Return the account's id. Of passed variables only the names count: a door that brings new values renews them.

    They belong to their project, so they never reach agents of another one.
    """
    known: list[object] = [sorted(caller.account.items()), sorted(secrets.items())]
    if caller.passed:
        known += [caller.project, sorted(caller.passed)]
    text = json.dumps(known)
    prefix = WITH_KEY if secrets or caller.passed else WITHOUT_KEY
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:ID_CHARACTERS]
