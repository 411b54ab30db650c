"""The crew tools: in-process MCP tools by which an agent reports, asks, and creates and awaits children."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from orchestrator.domain.git_call import COMMANDS
from orchestrator.domain.question import AnsweredBy
from orchestrator.domain.tool import CallContext, Json, Tool
from orchestrator.errors import ConflictError

MAX_PROGRESS_CHARACTERS = 300
MAX_QUESTION_CHARACTERS = 4000

PROGRESS: Json = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 1, "maxLength": MAX_PROGRESS_CHARACTERS}},
    "required": ["text"],
}
QUESTION: Json = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 1, "maxLength": MAX_QUESTION_CHARACTERS},
        "options": {"type": "array", "items": {"type": "string"}, "maxItems": 10},
    },
    "required": ["question"],
}
GIT: Json = {
    "type": "object",
    "properties": {
        "command": {"type": "string", "enum": list(COMMANDS)},
        "args": {"type": "array", "items": {"type": "string"}},
        "offset": {"type": "integer", "minimum": 0, "description": "character at which a long output continues"},
    },
    "required": ["command"],
    "additionalProperties": False,
}

CHILD: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "unique in the project"},
        "task": {"type": "string", "description": "what to do and what to report; it sees nothing of yours"},
        "persona": {"type": "string"},
        "model": {"type": "string"},
        "max_cost_usd": {"type": "number", "minimum": 0},
        "max_tokens": {"type": "integer", "minimum": 0},
    },
    "required": ["name", "task"],
}


@dataclass(frozen=True, kw_only=True)
class AgentPort:
    """What the crew tools of one agent call: record its progress, fetch the answer to a question, create an agent.

    The question is that of this tool call, None: the agent's last one.
    """

    progress: Callable[[str], Awaitable[None]]
    answer: Callable[[str | None], Awaitable[str | None]]
    create: Callable[[CallContext, Json], Awaitable[str]] | None = None
    """None: this agent may not create agents"""
    children: Callable[[], Awaitable[str]] | None = None
    git: Callable[[str, Sequence[str], int], Awaitable[str]] | None = None
    """None: it can run git itself, or it has nothing to read with it"""


def family_tools(port: AgentPort) -> tuple[Tool, ...]:
    """The tools of an agent that may create agents."""
    create, told = port.create, port.children
    if create is None or told is None:
        return ()

    async def wait_for_children(call: CallContext, arguments: Json) -> str:
        del arguments
        answer = await port.answer(call.key)
        if answer is None:  # the gate allows this tool only when all children have ended
            raise ConflictError("your agents still work", hint="call wait_for_children again")
        return await told() if answer == AnsweredBy.CHILDREN else f"{answer}\n{await told()}"

    return (
        Tool(
            name="create_agent",
            description=(
                "Start an agent of your own; returns at once. wait_for_children brings its result. Its tools and its "
                "budget lie within yours."
            ),
            schema=CHILD,
            call=create,
        ),
        Tool(
            name="wait_for_children",
            description="Sleep at no cost until all your agents have ended; gives how each ended and what it says.",
            schema={"type": "object", "properties": {}},
            call=wait_for_children,
        ),
    )


def git_tools(port: AgentPort) -> tuple[Tool, ...]:
    """The tool of an agent that reads the history of its repository through Fleet."""
    git = port.git
    if git is None:
        return ()

    async def read(call: CallContext, arguments: Json) -> str:
        del call
        return await git(str(arguments["command"]), list(arguments.get("args", ())), int(arguments.get("offset", 0)))

    return (
        Tool(
            name="git",
            description=(
                'Read this repository with git, such as command "log", args ["-5", "--", "src"]; it changes nothing.'
            ),
            schema=GIT,
            call=read,
        ),
    )


def crew_tools(port: AgentPort) -> tuple[Tool, ...]:
    """The tools of one agent."""

    async def report_progress(call: CallContext, arguments: Json) -> str:
        del call
        await port.progress(str(arguments["text"]))
        return "noted"

    async def ask_orchestrator(call: CallContext, arguments: Json) -> str:
        del arguments
        answer = await port.answer(call.key)
        if answer is None:  # the gate allows this tool only when its answer is there
            raise ConflictError("no answer has come yet", hint="ask again")
        return answer

    return (
        Tool(
            name="report_progress",
            description="Say in one line how far you are, on long work only. Nobody answers.",
            schema=PROGRESS,
            call=report_progress,
        ),
        Tool(
            name="ask_orchestrator",
            description=(
                "Ask the orchestrator what you cannot find out and must not guess. You sleep until it answers; "
                "one question at a time."
            ),
            schema=QUESTION,
            call=ask_orchestrator,
        ),
        *git_tools(port),
        *family_tools(port),
    )
