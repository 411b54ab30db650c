"""Accounts: whose key or login pays for an agent. Secrets are kept in memory only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestrator.domain.agent import Account
from orchestrator.domain.tool import Caller
from orchestrator.paths import is_secret

WITHOUT_KEY = "open-"
"""ids of accounts without a secret (a login in the user's files, a cloud profile)"""
WITH_KEY = "key-"
"""ids of accounts whose key or token a door must bring"""
ID_CHARACTERS = 16


@dataclass
class Accounts:
    """The secrets that doors have brought since this daemon started."""

    _secrets: dict[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]], repr=False)

    def bring(self, caller: Caller) -> Account:
        """Remember the caller's secrets and return its account."""
        both = {**caller.environment, **caller.account}
        secrets = {name: value for name, value in both.items() if is_secret(name, value)}
        account = Account(
            id=_id(caller.account, secrets),
            public={name: value for name, value in caller.account.items() if name not in secrets},
            environment={name: value for name, value in caller.environment.items() if name not in secrets},
        )
        if secrets:
            self._secrets[account.id] = secrets
        return account

    def payable(self) -> Callable[[str], bool]:
        """Return a rule that says whether an agent of an account can start: its secrets are known, or it needs none."""
        known = frozenset(self._secrets)
        return lambda account_id: account_id.startswith(WITHOUT_KEY) or account_id in known

    def secrets(self, account_id: str) -> Mapping[str, str]:
        """Return the account's secrets; empty if it needs none."""
        return self._secrets.get(account_id, {})


def _id(account: Mapping[str, str], secrets: Mapping[str, str]) -> str:
    text = json.dumps([sorted(account.items()), sorted(secrets.items())])
    prefix = WITH_KEY if secrets else WITHOUT_KEY
    return prefix + hashlib.sha256(text.encode()).hexdigest()[:ID_CHARACTERS]
