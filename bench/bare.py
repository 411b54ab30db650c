"""The baseline of the overhead measure: the bare claude-agent-sdk does what Fleet's agents do, without Fleet.

Run as `python -m bench.bare CONFIG.json`, a process of its own so that its CPU can be told apart. It reads the tasks,
one line each, plays every one in all its sessions at once, and answers with the seconds that it took. The first line
also opens the sessions, as many at a time as there are cores, as Fleet does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage


def _options(config: Mapping[str, Any], number: int) -> ClaudeAgentOptions:
    folder = Path(config["folder"]) / str(number)
    folder.mkdir(parents=True)
    environment = {
        **config["environment"],
        "CLAUDE_CONFIG_DIR": str(folder),
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    return ClaudeAgentOptions(
        env=environment,
        cwd=config["cwd"],
        tools=config["tools"],
        allowed_tools=config["tools"],
        model=config["model"],
        system_prompt={"type": "file", "path": config["system_prompt"]},
        strict_mcp_config=True,
        setting_sources=[],
        permission_mode="dontAsk",
        verbatim_prompts=True,
        max_buffer_size=64 * 2**20,
    )


async def _turn(client: ClaudeSDKClient, task: str) -> None:
    await client.query(task)
    async for message in client.receive_response():
        if isinstance(message, ResultMessage):
            assert not message.is_error, message


async def _first(client: ClaudeSDKClient, starts: asyncio.Semaphore, task: str) -> None:
    async with starts:
        await client.connect()
    await _turn(client, task)


async def main(config: Mapping[str, Any]) -> None:
    """Play the tasks that come on stdin."""
    clients = [ClaudeSDKClient(_options(config, number)) for number in range(config["sessions"])]
    starts = asyncio.Semaphore(os.cpu_count() or 1)
    is_open = False
    print("ready", flush=True)
    while task := (await asyncio.to_thread(sys.stdin.readline)).strip():
        begun = time.perf_counter()
        works = [_turn(client, task) if is_open else _first(client, starts, task) for client in clients]
        await asyncio.gather(*works)
        is_open = True
        print(time.perf_counter() - begun, flush=True)
    await asyncio.gather(*(client.disconnect() for client in clients))


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
