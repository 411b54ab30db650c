"""Fixtures of tasks: calls that outlive their connection, in memory behind the product's own wire."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mcp.shared.exceptions import MCPError

from orchestrator.domain.durable_wait import DurableWait, DurableWaitStatus, Form, Reply
from orchestrator.domain.tool import CallContext, Json, Tool
from orchestrator.errors import FleetError, NotFoundError

SCHEMA: Json = {"type": "object", "properties": {"name": {"type": "string"}, "confirm": {"type": "boolean"}}}
TEXTS = {key: {"type": "string"} for key in ("label", "name", "filename", "message")}
OPEN: Json = {"type": "object", "properties": {**TEXTS, "seconds": {"type": "number"}}}
HEADER: Json = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
ADDRESS: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@dataclass
class Job:
    """A fixture's call that became a task."""

    sleep: DurableWait
    work: asyncio.Task[None] | None = None
    replies: dict[str, asyncio.Future[Reply]] = field(default_factory=dict[str, "asyncio.Future[Reply]"])

    def become(self, status: DurableWaitStatus, **values: Any) -> None:
        """Move on."""
        self.sleep = replace(self.sleep, status=status, updated_at=time.time(), **values)

    async def ask(self, text: str) -> Reply:
        """Put a form to the person and return their reply."""
        key = f"form-{len(self.replies) + 1}"
        self.replies[key] = asyncio.get_running_loop().create_future()
        self.become(DurableWaitStatus.INPUT_REQUIRED, forms={**self.sleep.forms, key: Form(text=text, schema=SCHEMA)})
        return await self.replies[key]


Work = Callable[[Json, Job], Awaitable[str]]


class Fixtures:
    """Tasks in memory behind the product's wire, as the fleet's sleeps are in the product."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}

    def begin(self, work: Work) -> Callable[[CallContext, Json, bool], Awaitable[DurableWait]]:
        """What makes a call of this work a task."""

        async def begun(call: CallContext, arguments: Json, asks_person: bool) -> DurableWait:
            del call, asks_person
            now = time.time()
            wait_id = f"sl_{len(self.jobs) + 1:032x}"
            job = Job(
                DurableWait(
                    id=wait_id, status=DurableWaitStatus.WORKING, created_at=now, updated_at=now, ttl_seconds=3600.0
                )
            )
            self.jobs[wait_id] = job
            job.work = asyncio.get_running_loop().create_task(self._run(job, work, arguments))
            return job.sleep

        return begun

    async def _run(self, job: Job, work: Work, arguments: Json) -> None:
        try:
            job.become(DurableWaitStatus.COMPLETED, result=await work(arguments, job))
        except FleetError as error:
            job.become(DurableWaitStatus.COMPLETED, result=str(error), is_error=True)
        except MCPError as error:
            job.become(DurableWaitStatus.FAILED, error=(error.code, error.message), message=error.message)

    def _job(self, wait_id: str) -> Job:
        if wait_id not in self.jobs:
            raise NotFoundError(f"no task {wait_id!r}")
        return self.jobs[wait_id]

    async def durable_wait(self, call: CallContext, wait_id: str) -> DurableWait:
        """The task as it stands."""
        del call
        return self._job(wait_id).sleep

    async def reply_to_forms(self, call: CallContext, wait_id: str, given: Mapping[str, Reply]) -> None:
        """Hand replies to those who wait for them."""
        del call
        job = self._job(wait_id)
        for key, reply in given.items():
            if key in job.replies and not job.replies[key].done():
                job.replies[key].set_result(reply)
        left = {key: form for key, form in job.sleep.forms.items() if not job.replies[key].done()}
        job.become(DurableWaitStatus.INPUT_REQUIRED if left else DurableWaitStatus.WORKING, forms=left)

    async def cancel_durable_wait(self, call: CallContext, wait_id: str) -> None:
        """Cancel it."""
        del call
        job = self._job(wait_id)
        if job.sleep.status in {DurableWaitStatus.WORKING, DurableWaitStatus.INPUT_REQUIRED}:
            if job.work is not None:
                job.work.cancel()
            job.become(DurableWaitStatus.CANCELLED, forms={})

    def table(self) -> list[Tool]:
        """The suite's fixture tools, as far as they are text."""
        plain: dict[str, Callable[[CallContext, Json], Awaitable[str]]] = {
            "test_simple_text": _simple,
            "test_error_handling": _failing,
            "test_tool_with_progress": _progress,
            "greet": _greet,
        }
        works: dict[str, Work] = {
            "slow_compute": _slow,
            "failing_job": _failing_job,
            "protocol_error_job": _protocol_error,
            "confirm_delete": _confirm,
            "multi_input": _multi,
            "test_tool_with_task": _named,
        }
        described = [
            Tool(name="json_schema_2020_12_tool", description="A schema.", schema=ADDRESS, call=_simple),
            Tool(name="test_x_mcp_header", description="A header.", schema=HEADER, call=_region),
        ]
        return [
            *(Tool(name=name, description=name, schema=OPEN, call=call) for name, call in plain.items()),
            *(
                Tool(name=name, description=name, schema=OPEN, call=_blocking(work), waits=True, begin=self.begin(work))
                for name, work in works.items()
            ),
            *described,
        ]


def _blocking(work: Work) -> Callable[[CallContext, Json], Awaitable[str]]:
    async def call(call: CallContext, arguments: Json) -> str:
        del call
        now = time.time()
        sleep = DurableWait(id="", status=DurableWaitStatus.WORKING, created_at=now, updated_at=now, ttl_seconds=None)
        return await work(arguments, Job(sleep))

    return call


async def _simple(call: CallContext, arguments: Json) -> str:
    del call, arguments
    return "This is a simple text response for testing."


async def _region(call: CallContext, arguments: Json) -> str:
    del call
    return f"region={arguments.get('region')}"


async def _greet(call: CallContext, arguments: Json) -> str:
    del call
    return f"Hello, {arguments.get('name', 'World')}!"


async def _failing(call: CallContext, arguments: Json) -> str:
    del call, arguments
    raise NotFoundError("This tool intentionally returns an error for testing")


async def _progress(call: CallContext, arguments: Json) -> str:
    del arguments
    for step in (0, 50, 100):
        await call.progress(step, f"{step} of 100")
    return "done"


async def _slow(arguments: Json, job: Job) -> str:
    del job
    await asyncio.sleep(float(arguments.get("seconds", 0.5)))
    return "computed"


async def _failing_job(arguments: Json, job: Job) -> str:
    del arguments, job
    raise NotFoundError("the job failed")


async def _protocol_error(arguments: Json, job: Job) -> str:
    del arguments, job
    raise MCPError(-32603, "the job broke")


async def _confirm(arguments: Json, job: Job) -> str:
    reply = await job.ask(f"Delete {arguments.get('filename', 'it')}?")
    return "deleted" if reply.fields else "kept"


async def _named(arguments: Json, job: Job) -> str:
    del job
    return f"Done for {arguments.get('name', 'nobody')}."


async def _multi(arguments: Json, job: Job) -> str:
    del arguments
    await asyncio.gather(job.ask("one?"), job.ask("two?"))
    return "both"
