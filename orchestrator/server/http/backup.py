"""The backup endpoint: copies the database to a file and streams the progress as lines of JSON."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from orchestrator.errors import FleetError
from orchestrator.server.http.endpoint import ApiRequest, Endpoint, Endpoints
from orchestrator.server.http.problems import document
from orchestrator.server.http.schemas import BackupBody, BackupLine, NoQuery

if TYPE_CHECKING:
    from orchestrator.fleet.fleet import Fleet
    from orchestrator.fleet.verbs.backup import PagesCopied

MEDIA_TYPE = "application/x-ndjson"


async def back_up(asked: ApiRequest[BackupBody, NoQuery]) -> Response:
    """Copy the database to a file while agents work; JSON lines report the progress, the last one the result."""
    lines = _lines(asked.fleet, Path(asked.body.file), overwrite=asked.body.overwrite)
    first = await anext(lines)  # an unusable path is an error of the request, not a line of the stream

    async def sent() -> AsyncGenerator[str]:
        yield _text(first)
        try:
            async for line in lines:
                yield _text(line)
        except FleetError as error:
            yield _text(BackupLine(error=document(error)))

    return StreamingResponse(sent(), media_type=MEDIA_TYPE)


async def _lines(fleet: Fleet, target: Path, *, overwrite: bool) -> AsyncGenerator[BackupLine]:
    reports: asyncio.Queue[PagesCopied | None] = asyncio.Queue()
    copying = asyncio.create_task(fleet.backup(target, overwrite=overwrite, report=reports.put_nowait))
    copying.add_done_callback(lambda _: reports.put_nowait(None))
    try:
        while (report := await reports.get()) is not None:
            yield BackupLine(pages_done=report.done, pages=report.total)
        yield BackupLine(file=str(target), bytes=await copying)
    finally:
        copying.cancel()
        with suppress(asyncio.CancelledError, FleetError):
            await copying


def _text(line: BackupLine) -> str:
    return line.model_dump_json(exclude_none=True) + "\n"


ENDPOINTS: Endpoints = (
    Endpoint("POST", "/v1/backup", back_up, BackupBody, NoQuery, BackupLine, media_type=MEDIA_TYPE, anonymous=True),
)
