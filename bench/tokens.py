"""Counts what a whole scout-plan-build costs its orchestrator, from the transcript of the demo with the real claude."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from bench.figures import Figure
from bench.stage import Sizes
from orchestrator.cli.demo.transcript import FLEET_TOOLS

ROW = "orchestrator: tokens of calls and results for a scout-plan-build"
LIMIT_SECONDS = 600


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Play the demo: the whole chain in one message, and phase by phase."""
    forms: dict[str, tuple[str, list[str]]] = {
        "whole": ("the whole chain at once", []),
        "phases": ("phase by phase", ["--phases"]),
    }
    for key in ("whole", "phases") if sizes.whole else ("whole",):
        part, options = forms[key]
        yield from _figures(key, part, *_played(options))


def _played(options: list[str]) -> tuple[Mapping[str, Any], Counter[str]]:
    """The demo's own document, and the bytes of Fleet's calls and results by tool."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", ignore_cleanup_errors=True) as place:
        command = [sys.executable, "-m", "orchestrator", "demo", "--json", "--dir", place, *options]
        done = subprocess.run(
            command,
            env={**os.environ, "HOME": place},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
        document = json.loads(done.stdout)
        assert document["ok"], document["problems"]
        lines = Path(document["orchestrator"]["transcript"]).read_text(encoding="utf-8").splitlines()
    return document, _by_tool(map(json.loads, lines))


def _by_tool(messages: Iterator[Mapping[str, Any]]) -> Counter[str]:
    names: dict[str, str] = {}
    counted: Counter[str] = Counter()
    for message in messages:
        content = message.get("message", {}).get("content")
        for block in cast("list[Mapping[str, Any]]", content if isinstance(content, list) else []):
            _count(block, names, counted)
    return counted


def _count(block: Mapping[str, Any], names: dict[str, str], counted: Counter[str]) -> None:
    name = str(block.get("name", ""))
    if block.get("type") == "tool_use" and name.startswith(FLEET_TOOLS):
        names[block["id"]] = name.removeprefix(FLEET_TOOLS)
        text = json.dumps(block["input"], ensure_ascii=False, separators=(",", ":"))
        counted[f"{names[block['id']]} calls"] += len(text.encode())
    elif block.get("type") == "tool_result" and block.get("tool_use_id") in names:
        content = block["content"]
        text = content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)
        counted[f"{names[block['tool_use_id']]} results"] += len(text.encode())


def _figures(key: str, part: str, document: Mapping[str, Any], by_tool: Counter[str]) -> Iterator[Figure]:
    said = document["orchestrator"]
    tokens = said["call_tokens"] + said["result_tokens"]
    where = ", ".join(f"{name} {size // 4}" for name, size in by_tool.most_common())
    note = f"{said['call_tokens']} in calls, {said['result_tokens']} in results: {where}"
    whole = key == "whole"
    yield Figure(
        key=f"tokens.{key}",
        row=ROW,
        part=part,
        unit="tokens",
        samples=[tokens],
        shown=("value",),
        goal={"value": 1000} if whole else {},
        note=note,
    )
    yield Figure(
        key=f"tokens.{key}.turns",
        row=ROW,
        part="in",
        unit="model turns",
        samples=[said["model_turns"]],
        shown=("value",),
        goal={"value": 4} if whole else {},
    )
