"""The choice of the reply: a pure function of script and conversation, the same for every wire format.

It keeps no state between requests. The number of assistant turns since the latest task determines which reply is due,
and earlier conditions (`when`) are evaluated again with what was known then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

from pydantic import JsonValue

from . import templates
from .conversation import Conversation, Message, Results, Task, call_id, latest_task, turn_starts
from .script import Call, Fault, Loaded, Match, Part, Reply
from .templates import TemplateProblem

MAX_CALLS = 1000
"""The most tool calls in one reply."""
SHOWN_TASK = 120
"""The most characters of the task that a message shows."""


class Unmatched(Exception):  # noqa: N818 - the name of a state that the reader knows, not of a crash
    """The script has no reply for this request; the text lists the replies that it has."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of a reply."""

    id: str
    tool: str
    input: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply made for one request.

    `number` counts from 1 within the part; times are in seconds; tokens that are None are estimated from the size.
    `auxiliary` names the request that a reply outside of the script answers.
    """

    part: str
    number: int
    task: str
    thinking: str = ""
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    stop: str = "end_turn"
    input_tokens: int | None = None
    output_tokens: int | None = None
    delay_seconds: float = 0.0
    stream_seconds: float = 0.0
    fault: Fault | None = None
    auxiliary: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether the reply has neither text nor calls."""
        return not (self.thinking or self.text or self.calls or self.fault)


def choose(loaded: Loaded, conversation: Conversation) -> Answer:
    """The reply to the last message of `conversation`; raises Unmatched if there is none or a template fails."""
    task = latest_task(conversation.messages)
    with templates.bounded_cpu():
        try:
            found = _part(loaded, conversation, task)
            if found is None:
                raise Unmatched(_no_part(loaded, conversation, task))
            return _play(loaded, conversation, task, *found)
        except TemplateProblem as problem:
            raise Unmatched(f"{_who(loaded, conversation, task)}: {problem}") from None


def _part(loaded: Loaded, conversation: Conversation, task: Task) -> tuple[int, dict[str, str]] | None:
    for index, part in enumerate(loaded.script.parts):
        groups = _groups(part.match, conversation, task)
        if groups is not None:
            return index, groups
    return None


def _groups(match: Match, conversation: Conversation, task: Task) -> dict[str, str] | None:
    """The named groups of the task's regex if everything matches, else None."""
    globs = (
        (match.agent, conversation.agent),
        (match.persona, conversation.persona),
        (match.model, conversation.model),
    )
    if any(pattern is not None and not fnmatchcase(given, pattern) for pattern, given in globs):
        return None
    if match.system is not None and re.search(match.system, conversation.system, re.MULTILINE) is None:
        return None
    if match.task is None:
        return {}
    found = re.search(match.task, task.text, re.MULTILINE)
    return None if found is None else found.groupdict(default="")


@dataclass(frozen=True, slots=True)
class _Scene:
    """The values from which every reply of the part is made."""

    loaded: Loaded
    conversation: Conversation
    task: Task
    part_index: int
    variables: Mapping[str, object]

    @property
    def part(self) -> Part:
        return self.loaded.script.parts[self.part_index]

    def known(self, results: Results) -> dict[str, object]:
        return {
            **self.variables,
            "results": dict(results.texts),
            "errors": list(results.errors),
            "steers": list(results.steers),
        }


def _play(loaded: Loaded, conversation: Conversation, task: Task, part_index: int, groups: Mapping[str, str]) -> Answer:
    variables: dict[str, object] = {
        "task": task.text,
        "system": conversation.system,
        "agent": conversation.agent,
        "persona": conversation.persona,
        "model": conversation.model,
        **groups,
    }
    scene = _Scene(loaded, conversation, task, part_index, variables)
    messages = conversation.messages
    results = Results()
    read_to, position = 0, 0
    for start in [*turn_starts(messages, task.index), len(messages)]:
        _take_in(results, messages[read_to:start])
        read_to = start
        position, answer = _next(scene, position, results, is_due=start == len(messages))
        if answer is not None:
            return answer
        position += 1
    raise AssertionError("the last place is always due")


def _take_in(results: Results, messages: Sequence[Message]) -> None:
    for message in messages:
        results.read(message)


def _next(scene: _Scene, position: int, results: Results, *, is_due: bool) -> tuple[int, Answer | None]:
    """The index of the first reply from `position` that is not skipped, and, if it is due, the answer itself."""
    replies = scene.part.replies
    known: dict[str, object] | None = None
    for place in range(position, len(replies)):
        reply = replies[place]
        if not is_due and reply.when is True and not _may_be_empty(reply):
            return place, None
        known = known or scene.known(results)
        answer = _answer(scene, place, known)
        if answer is not None:
            return place, answer if is_due else None
    if is_due:
        raise Unmatched(_no_reply(scene, position))
    return len(replies), None


def _may_be_empty(reply: Reply) -> bool:
    """Whether templates decide if the reply says anything."""
    return reply.fault is None and not any(call.for_each is None for call in reply.calls)


def _answer(scene: _Scene, place: int, known: Mapping[str, object]) -> Answer | None:
    """The reply at `place`, or None if its condition is false or it has nothing to say."""
    reply = scene.part.replies[place]
    at = ("parts", scene.part_index, "replies", place)
    at_key: tuple[str | int, ...] = (*at, "when")
    try:
        if not _holds(reply.when, known):
            return None
        at_key = (*at, "calls")
        calls = _calls(reply, known, scene.conversation.fingerprint)
        at_key = (*at, "say")
        text = _said(reply.say, reply.repeat, known)
        thinking = _said(reply.thinking, 1, known)
    except TemplateProblem as problem:
        raise Unmatched(
            f"rehearsal {scene.loaded.script.name!r}: part {scene.part.part!r}, reply {place + 1}"
            f" ({scene.loaded.place(*at_key)}), {at_key[-1]}: {problem}"
        ) from None
    answer = Answer(
        part=scene.part.part,
        number=place + 1,
        task=scene.task.text,
        thinking=thinking,
        text=text,
        calls=calls,
        stop=reply.stop or ("tool_use" if calls else "end_turn"),
        input_tokens=reply.usage.input_tokens,
        output_tokens=reply.usage.output_tokens,
        delay_seconds=scene.loaded.script.model_seconds if reply.delay_seconds is None else reply.delay_seconds,
        stream_seconds=reply.stream_seconds,
        fault=reply.fault,
    )
    return None if answer.is_empty else answer


def _holds(condition: bool | str, known: Mapping[str, object]) -> bool:
    return condition if isinstance(condition, bool) else bool(templates.value(condition, known))


def _said(source: str | None, repeat: int, known: Mapping[str, object]) -> str:
    if source is None:
        return ""
    text = templates.text(source, known)
    if len(text) * repeat > templates.MAX_TEXT:
        raise TemplateProblem(f"{len(text)} characters repeated {repeat} times; the limit is {templates.MAX_TEXT}")
    return text * repeat


def _calls(reply: Reply, known: Mapping[str, object], fingerprint: str) -> tuple[ToolCall, ...]:
    made: list[ToolCall] = []
    for call in reply.calls:
        many = call.for_each is not None
        for index, item in enumerate(_items(call, known)):
            if len(made) == MAX_CALLS:
                raise TemplateProblem(f"more than {MAX_CALLS} calls in one reply")
            variables = {**known, "item": item, "index": index} if many else known
            name = call_id(call.name, fingerprint, len(made), many=many)
            made.append(
                ToolCall(name, call.tool, {key: _filled(value, variables) for key, value in call.input.items()})
            )
    return tuple(made)


def _items(call: Call, known: Mapping[str, object]) -> list[object]:
    """The items of `for_each`; a call without it is made once."""
    if call.for_each is None:
        return [None]
    if isinstance(call.for_each, list):
        return [_filled(item, known) for item in call.for_each]
    found = templates.value(call.for_each, known)
    if not isinstance(found, list):
        raise TemplateProblem(f"for_each needs a list, and {call.for_each!r} is {_kind(found)}")
    return cast("list[object]", found)


def _kind(value: object) -> str:
    return "none" if value is None else f"a {type(value).__name__}"


def _filled(value: JsonValue, variables: Mapping[str, object]) -> object:
    """`value` with every text in it rendered."""
    if isinstance(value, str):
        return templates.value(value, variables)
    if isinstance(value, dict):
        return {key: _filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    return value


def _start(text: str) -> str:
    return text if len(text) <= SHOWN_TASK else text[:SHOWN_TASK] + "…"


def _who(loaded: Loaded, conversation: Conversation, task: Task) -> str:
    said = " ".join(task.text.split())
    return (
        f"rehearsal {loaded.script.name!r} ({loaded.file}): agent {conversation.agent or '(none)'!r},"
        f" persona {conversation.persona or '(none)'!r}, model {conversation.model!r},"
        f" task {_start(said)!r}"
    )


def _no_part(loaded: Loaded, conversation: Conversation, task: Task) -> str:
    """Who asked and, for each part, which requests it would have answered."""
    known = [
        f"{part.part!r} ({loaded.place('parts', index)}) answers {_wanted(part.match)}"
        for index, part in enumerate(loaded.script.parts)
    ]
    return f"{_who(loaded, conversation, task)}: no part matches. Parts: {'; '.join(known)}"


def _wanted(match: Match) -> str:
    given = ", ".join(f"{key}: {value!r}" for key, value in match.model_dump(exclude_none=True).items())
    return given or "everyone"


def _no_reply(scene: _Scene, position: int) -> str:
    """Which model call ran out of replies, and how many replies every part has."""
    loaded = scene.loaded
    counts = ", ".join(f"{part.part!r} has {len(part.replies)}" for part in loaded.script.parts)
    turns = len(turn_starts(scene.conversation.messages, scene.task.index))
    return (
        f"{_who(loaded, scene.conversation, scene.task)}: part {scene.part.part!r}"
        f" ({loaded.place('parts', scene.part_index)}) has no reply left for model call {turns + 1} since the task"
        f" ({position} of its {len(scene.part.replies)} replies are used or skipped). Replies: {counts}"
    )
