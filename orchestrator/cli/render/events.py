"""Formats events for people: the lines to show live (none for most kinds), and an event's text on one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.cli.http.json_shape import as_list, as_object
from orchestrator.domain.duration import format_age
from orchestrator.domain.text import LINE_CHARACTERS, named, one_line

if TYPE_CHECKING:
    from orchestrator.fleet.views import EventView

Body = Mapping[str, object]

FLEET_TOOLS = "mcp__plugin_fleet_fleet__"
_SHOWN = frozenset(
    {
        "agent.created",
        "agent.blocked",
        "agent.deleted",
        "agent.progress",
        "turn.started",
        "turn.waiting",
        "turn.answered",
        "turn.resumed",
        "turn.complete",
        "turn.failed",
        "turn.interrupted",
        "turn.lost",
        "turn.plan_refused",
        "session.retrying",
        "session.stalled",
        "session.denied",
    }
)
"""events that are shown live; tool calls are only counted, except a shell's and an orchestrator's"""
_OWN = ("reason", "was")
"""of an event's texts, those that are Fleet's words"""
_TEXTS = ("tool", "reason", "summary", "text", "question", "input", "detail", "error", "was", "model")
MAX_LIVE_CHARACTERS = 120
_LEAST_CHARACTERS = 8
"""a text with less room is left out"""


def live_lines(event: EventView, *, directs: bool = False) -> Iterator[str]:
    """Yield the lines to show live for an event; `directs`: of an orchestrator, whose calls and words are shown."""
    tool = str(event.body.get("tool", "")) if event.kind == "tool.started" else ""
    if event.kind == "turn.waiting" and event.body.get("kind") == "agents":
        yield "sleeps until its agents are done or need it: no process, no token"
    elif event.kind == "turn.answered" and event.body.get("by") == "agents":
        yield "woken by its agents"
    elif directs and tool:
        yield _line(["calls"], [tool.removeprefix(FLEET_TOOLS), str(event.body.get("summary", ""))])
    elif directs and event.kind == "session.said":
        yield f"says: {event_text(event, MAX_LIVE_CHARACTERS - len('says: '))}"
    elif event.kind in _SHOWN or tool == "Bash":
        action = "runs" if tool else event.kind.partition(".")[2]
        yield f"{action} {event_text(event, MAX_LIVE_CHARACTERS - len(action) - 1)}".rstrip()


def event_text(event: EventView, limit_characters: int = LINE_CHARACTERS) -> str:
    """Return the event's text without time, agent and kind, on one line: what others wrote is quoted in it."""
    fixed = _BY_KIND.get(event.kind)
    words = [] if fixed is None else [fixed(event.body)]
    if event.kind in _TOLD_WHOLLY:
        return _line(words, [], limit_characters)
    found = {name: text for name in _TEXTS if isinstance(text := event.body.get(name), str)}
    words += [text for name, text in found.items() if name in _OWN]
    return _line(words, [text for name, text in found.items() if name not in _OWN], limit_characters)


def _line(words: Sequence[str], foreign: Sequence[str], limit_characters: int = MAX_LIVE_CHARACTERS) -> str:
    """Fleet's words and then what others wrote: as it is if it is one plain word, otherwise quoted."""
    line = one_line(" ".join(words), limit_characters)
    for text in filter(None, foreign):
        room = limit_characters - len(line) - len(' ""')
        if room < _LEAST_CHARACTERS:
            break
        line += f" {named(text, room)}"
    return line.lstrip()


def _created(body: Body) -> str:
    model = named(str(body["model"])) if body.get("model") else "its default model"
    return f"{named(str(body.get('persona')))}, {body.get('provider')}/{model}"


def _used(body: Body) -> str:
    return f"context {_tokens(body.get('context_tokens'))}, {_tokens(body.get('total_tokens'))} tokens so far"


def _tool_ended(body: Body) -> str:
    return "FAILED" if body.get("ok") is False else ""


def _retrying(body: Body) -> str:
    return f"attempt {body.get('attempt')}, status {body.get('status') or 'none'}"


def _stalled(body: Body) -> str:
    seconds = body.get("seconds")
    return f"silent for {format_age(seconds if isinstance(seconds, int | float) else None)}"


def _denied(body: Body) -> str:
    tools = ", ".join(named(str(tool)) for tool in as_list(body.get("tools")))
    return f"by its own program, though Fleet allowed it: {tools}"


def _looping(body: Body) -> str:
    return f"the same call {body.get('times')} x"


def _checking(body: Body) -> str:
    return f"attempt {body.get('attempt')}: {named(str(body.get('check')))}"


def _checked(body: Body) -> str:
    checks = [as_object(one) for one in as_list(body.get("checks"))]
    failed = [f"{named(str(one.get('check')))}: {one.get('said')}" for one in checks if not one.get("passed")]
    return f"attempt {body.get('attempt')}: {'passed' if body.get('passed') else 'FAILED  ' + '; '.join(failed)}"


def _complete(body: Body) -> str:
    changes = as_object(body.get("changes"))
    cost = _cost(body.get("cost_usd"))
    if not as_list(changes.get("files")):
        return cost
    return f"{cost}  {changes.get('files_changed')} files +{changes.get('insertions')} -{changes.get('deletions')}"


def _tokens(count: object) -> str:
    from orchestrator.domain.usage import shown_tokens

    return shown_tokens(count if isinstance(count, int) else None)


def _cost(cost: object) -> str:
    from orchestrator.domain.usage import shown_cost

    return shown_cost(float(cost) if isinstance(cost, int | float) else None)


_BY_KIND: dict[str, Callable[[Body], str]] = {
    "agent.created": _created,
    "session.used": _used,
    "tool.ended": _tool_ended,
    "session.retrying": _retrying,
    "session.stalled": _stalled,
    "session.denied": _denied,
    "agent.looping": _looping,
    "turn.complete": _complete,
    "turn.checking": _checking,
    "turn.checked": _checked,
}
_TOLD_WHOLLY = frozenset({"agent.created", "session.used"})
