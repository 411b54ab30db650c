"""Finds the `claude` executable and the folder of Fleet's Claude Code plugin, for `demo` and `doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from orchestrator import paths
from orchestrator.errors import NotFoundError
from orchestrator.providers.claude.catalog import bundled_program


def claude_program(environment: Mapping[str, str]) -> Path:
    """Return the `claude` to run: CLAUDE_CODE_PATH, or else the one bundled with claude-agent-sdk.

    Raises:
        NotFoundError: neither exists.
    """
    if chosen := environment.get("CLAUDE_CODE_PATH"):
        found = shutil.which(chosen, path=environment.get("PATH"))
        if found is None:
            raise NotFoundError(
                f"CLAUDE_CODE_PATH={chosen} is not an executable program",
                hint="correct it, or unset it to use the bundled claude",
            )
        return Path(found)
    if program := bundled_program():
        return program
    raise NotFoundError(
        "claude-agent-sdk bundles no claude program for this platform",
        hint="install Claude Code and set CLAUDE_CODE_PATH to its claude",
    )


def plugin_root() -> Path:
    """Return the directory of Fleet's Claude Code plugin.

    Raises:
        NotFoundError: the plugin's files are not installed.
    """
    manifest = paths.asset(".claude-plugin") / "plugin.json"
    if not manifest.is_file():
        raise NotFoundError(f"the plugin's {manifest} is missing", hint="reinstall agent-fleet")
    return manifest.parent.parent
