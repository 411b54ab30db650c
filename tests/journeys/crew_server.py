"""The crew tools for one agent that is run by hand: an MCP server on stdio that gives every question the same answer.

Standard library only. Usage: crew_server.py ANSWER FILE; what was asked is appended to FILE, a JSON line each.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TEXT = {"type": "string"}
TOOLS = [
    {
        "name": "ask_orchestrator",
        "description": "Ask the orchestrator",
        "inputSchema": {
            "type": "object",
            "properties": {"question": TEXT, "options": {"type": "array", "items": TEXT}},
            "required": ["question"],
        },
    },
    {
        "name": "report_progress",
        "description": "Say how far you are",
        "inputSchema": {"type": "object", "properties": {"text": TEXT}, "required": ["text"]},
    },
]


def reply(request: dict[str, object], answer: str, asked: Path) -> object:
    """The result for one request."""
    params = request.get("params")
    fields: dict[str, object] = params if isinstance(params, dict) else {}  # pyright: ignore[reportUnknownVariableType] - JSON from outside
    if request["method"] == "initialize":
        server = {"name": "crew", "version": "1"}
        return {"protocolVersion": fields["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": server}
    if request["method"] == "tools/list":
        return {"tools": TOOLS}
    if request["method"] == "tools/call" and fields["name"] == "ask_orchestrator":
        with asked.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields["arguments"]) + "\n")
        return {"content": [{"type": "text", "text": answer}]}
    return {"content": [{"type": "text", "text": "noted"}]}


def main() -> None:
    """Serve until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        if "id" in request:
            result = reply(request, sys.argv[1], Path(sys.argv[2]))
            print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)


if __name__ == "__main__":
    main()
