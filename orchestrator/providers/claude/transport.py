"""Connects the SDK to a `claude` program that Fleet has started."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

from claude_agent_sdk import CLIConnectionError, CLIJSONDecodeError, ProcessError, Transport

from orchestrator.supervision.stdio import StdioProcess


class ProcessTransport(Transport):
    """The SDK's messages to and from the program, one JSON object a line."""

    def __init__(self, process: StdioProcess) -> None:
        self._process = process
        self._is_open = True

    async def connect(self) -> None:
        """Do nothing: the program runs."""

    async def write(self, data: str) -> None:
        """Return once the program can take more input.

        Raises:
            CLIConnectionError: it has ended or closed its input.
        """
        try:
            await self._process.write(data.encode())
        except OSError as error:
            raise CLIConnectionError(f"cannot write to claude: {error}") from error

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the program's messages until it ends; lines that are not objects are debug output and are skipped.

        Raises:
            CLIConnectionError: a message is longer than the process may send.
            CLIJSONDecodeError: a message is broken.
            ProcessError: the program failed; carries its exit code.
        """
        try:
            async for line in self._process.lines():
                if (message := _message(line)) is not None:
                    yield message
        except ValueError as error:
            raise CLIConnectionError(f"claude's output cannot be read: {error}") from error
        if code := await self._process.wait():
            raise ProcessError(f"Command failed with exit code {code}", exit_code=code)

    async def close(self) -> None:
        """End the program and everything that it started."""
        self._is_open = False
        await self._process.close()

    def is_ready(self) -> bool:
        """Whether it has not been closed."""
        return self._is_open

    async def end_input(self) -> None:
        """Close the program's input, after which it exits."""
        self._process.close_input()


def _message(line: bytes) -> dict[str, Any] | None:
    """The message on this line; None if it holds none, or only the beginning of one, as a killed program leaves it."""
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        return cast("dict[str, Any]", json.loads(line))
    except ValueError as error:
        if not line.endswith(b"\n"):
            return None
        raise CLIJSONDecodeError(line.decode("utf-8", "replace"), error) from error
