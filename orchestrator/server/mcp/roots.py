"""Asks a client where its session works now: roots/list, which both protocol eras carry in their own way.

Claude Code (2.1.329, measured) names the worktree that a session has entered; for a sub-agent with a worktree of its
own it names the session's place, so such an agent has to give `cwd`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import unquote_to_bytes, urlsplit

import mcp_types as types
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.message import ServerMessageMetadata
from pydantic import ValidationError

from orchestrator.domain.text import is_plain
from orchestrator.tool_table import Context

SECONDS = 5.0
MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux, with its NUL"""
_KEY = "roots"
_WITHOUT_REQUESTS = frozenset({"2026-07-28"})
"""protocol versions in which a server asks by an interim result, and its client calls again with the answer"""


async def roots(ctx: Context, params: types.CallToolRequestParams) -> Sequence[str] | types.InputRequiredResult | None:
    """Return the directories that the client works in, or the result that asks it for them.

    The result is empty for a client that has no roots, and None for one that has some but did not name them.
    """
    capabilities = ctx.session.client_capabilities
    if capabilities is None or capabilities.roots is None:
        return ()
    if ctx.protocol_version not in _WITHOUT_REQUESTS:
        return await _asked(ctx)
    if params.input_responses is None:
        return types.InputRequiredResult(input_requests={_KEY: types.ListRootsRequest()})
    found = params.input_responses.get(_KEY)
    return _directories(found) if isinstance(found, types.ListRootsResult) else None


async def _asked(ctx: Context) -> Sequence[str] | None:
    with suppress(MCPError, NoBackChannelError, ValidationError, TimeoutError):
        async with asyncio.timeout(SECONDS):
            request = types.ListRootsRequest()
            mine = ServerMessageMetadata(related_request_id=ctx.request_id)  # the call's stream may be the only one
            return _directories(await ctx.session.send_request(request, types.ListRootsResult, metadata=mine))
    return None


def _directories(found: types.ListRootsResult) -> Sequence[str] | None:
    """Return the roots that are directories here; None if there are some, but none that Fleet can use."""
    parts = [urlsplit(str(root.uri)) for root in found.roots]
    paths = [os.fsdecode(unquote_to_bytes(one.path)) for one in parts if one.scheme == "file" and one.path]
    usable = [path for path in paths if is_plain(path) and len(path.encode()) < MAX_PATH_BYTES]
    return usable if usable or not paths else None
