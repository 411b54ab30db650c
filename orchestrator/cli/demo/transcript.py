"""Reads the output of `claude --output-format stream-json` into the figures that the demo reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.cli.http.json_shape import as_list, as_object
from orchestrator.cli.render.events import FLEET_TOOLS

_USAGE = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")

_COLUMNS = ("input_tokens", "cache_write_tokens", "cache_read_tokens", "output_tokens")
"""the same, as a turn reports them"""


@dataclass
class SessionSummary:
    """The orchestrator's session so far; one per run, fed line by line.

    `call_bytes` and `result_bytes` are those of Fleet's tools only: what Fleet costs its orchestrator, schemas apart.
    """

    session_id: str = ""
    servers: dict[str, str] = field(default_factory=dict[str, str])
    messages: set[str] = field(default_factory=set[str])
    calls: dict[str, str] = field(default_factory=dict[str, str])
    call_bytes: int = 0
    result_bytes: int = 0
    result: Mapping[str, object] = field(default_factory=dict[str, object])

    def take(self, line: bytes) -> list[str]:
        """Read one line of the stream; return the lines to show for it."""
        try:
            message = as_object(json.loads(line))
        except ValueError:
            return []
        kind = message.get("type")
        self.session_id = self.session_id or str(message.get("sessionId", ""))
        if kind == "system" and message.get("subtype") == "init":
            self.session_id = str(message.get("session_id", ""))
            servers = [as_object(server) for server in as_list(message.get("mcp_servers"))]
            self.servers = {str(server.get("name")): str(server.get("status")) for server in servers}
        elif kind == "assistant" and not message.get("parent_tool_use_id"):
            return list(self._said(as_object(message.get("message"))))
        elif kind == "user" and not message.get("parent_tool_use_id"):
            self._results(as_object(message.get("message")))
        elif kind == "result":
            self.result = message
            self.session_id = str(message.get("session_id") or self.session_id)
        return []

    def end(self, told: Mapping[str, object]) -> None:
        """Take the result from the report of `fleet run --json`, because that session's own file lacks it."""
        director = as_object(told.get("orchestrator"))
        turn = as_object(director.get("turn"))
        self.result = {
            "subtype": "success" if told.get("ok") else str(turn.get("detail") or turn.get("reason") or "failed"),
            "result": str(told.get("report", "")),
            "total_cost_usd": director.get("cost_usd"),
            "usage": {name: turn.get(column) for name, column in zip(_USAGE, _COLUMNS, strict=True)},
        }

    def _said(self, message: Mapping[str, object]) -> Iterator[str]:
        self.messages.add(str(message.get("id")))
        for block in map(as_object, as_list(message.get("content"))):
            if block.get("type") == "text":
                yield f"says: {block.get('text')}"
            elif block.get("type") == "tool_use":
                yield self._called(str(block.get("id")), str(block.get("name")), as_object(block.get("input")))

    def _called(self, call_id: str, name: str, arguments: Mapping[str, object]) -> str:
        self.calls[call_id] = name
        if not name.startswith(FLEET_TOOLS):
            return f"calls {name}"
        self.call_bytes += len(json.dumps(arguments, ensure_ascii=False, separators=(",", ":")).encode())
        keys = ("name", "persona", "inputs") if "name" in arguments else ("agent", "agents", "task")
        about = [str(arguments[key]) for key in keys if key in arguments]
        return f"calls {name.removeprefix(FLEET_TOOLS)} {' '.join(about)}"

    def _results(self, message: Mapping[str, object]) -> None:
        for block in map(as_object, as_list(message.get("content"))):
            if self.calls.get(str(block.get("tool_use_id")), "").startswith(FLEET_TOOLS):
                self.result_bytes += len(_text_of(block.get("content")).encode())

    @property
    def usage(self) -> dict[str, int]:
        """Tokens as the CLI states them at the end of the session; empty if it never did."""
        stated = as_object(self.result.get("usage"))
        return {name: value for name in _USAGE if isinstance(value := stated.get(name), int)}

    @property
    def cost_usd(self) -> float | None:
        """What the CLI says that its own session cost; None if it did not."""
        stated = self.result.get("total_cost_usd")
        return float(stated) if isinstance(stated, int | float) else None

    @property
    def failure(self) -> str:
        """Why the session failed, in the CLI's words; empty if it ended well."""
        if not self.result:
            return "it ended without a result"
        if self.result.get("is_error") or self.result.get("subtype") != "success":
            return str(self.result.get("result") or self.result.get("errors") or self.result.get("subtype"))
        return ""


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(as_object(part).get("text", "")) for part in as_list(content))


def transcript_path(environment: Mapping[str, str], session_id: str) -> Path | None:
    """Where Claude Code keeps the session's transcript; None if it keeps none."""
    configuration = environment.get("CLAUDE_CONFIG_DIR") or str(Path(environment["HOME"]) / ".claude")
    found = sorted(Path(configuration).glob(f"projects/*/{session_id}.jsonl")) if session_id else []
    return found[0] if found else None
