"""Rehearsal scripts: which requests get which replies. Read from YAML and validated strictly before anything is played.

docs/rehearsal.md describes the format; the models below define it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic_core import ErrorDetails

from . import templates, yaml_source
from .templates import TemplateProblem

RESERVED = frozenset({"task", "system", "agent", "persona", "model", "results", "errors", "steers", "item", "index"})
"""Names that a group of `match.task` cannot have."""

FaultKind = Literal["silence", "silence_mid", "cut", "cut_mid", "html", "empty", "ping", "garbage", "error_mid"]
StopReason = Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn"]


class ScriptError(Exception):
    """The script is invalid: the text has a line `file:line: what is wrong` for each problem."""


def _template(source: str) -> str:
    _checked(source)
    return source


def _checked(source: str) -> None:
    try:
        templates.check(source)
    except TemplateProblem as problem:
        raise ValueError(str(problem)) from None


def _expression(source: object) -> object:
    if isinstance(source, str):
        try:
            single = templates.single_expression(source)
        except TemplateProblem as problem:
            raise ValueError(str(problem)) from None
        if single is None:
            raise ValueError('must be exactly one expression: "{{ ... }}"')
        _checked(source)
    return source


def _regex(source: str) -> str:
    try:
        re.compile(source, re.MULTILINE)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return source


def _json_templates(value: JsonValue) -> JsonValue:
    for source in _strings(value):
        _checked(source)
    return value


def _strings(value: JsonValue) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


Template = Annotated[str, AfterValidator(_template)]
Regex = Annotated[str, AfterValidator(_regex)]
Condition = Annotated[bool | str, AfterValidator(_expression)]
Items = Annotated[list[JsonValue] | str, AfterValidator(_expression)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Tokens = Annotated[int, Field(ge=0, le=1_000_000_000)]


class _Strict(BaseModel):
    """Accepts exactly the declared keys and converts nothing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)


class Match(_Strict):
    """What a request must match; an absent key matches everything."""

    agent: str | None = None
    persona: str | None = None
    model: str | None = None
    system: Regex | None = None
    task: Regex | None = None

    @model_validator(mode="after")
    def _groups_are_free(self) -> Self:
        taken = RESERVED & set(re.compile(self.task or "").groupindex)
        if taken:
            raise ValueError(f"task: the group name {min(taken)!r} is taken; reserved: {', '.join(sorted(RESERVED))}")
        return self


class Call(_Strict):
    """One tool call, or with `for_each` one for every item."""

    tool: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
    input: Annotated[dict[str, JsonValue], AfterValidator(_json_templates)] = {}
    result: Annotated[str | None, Field(alias="as", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")] = None
    for_each: Items | None = None

    @property
    def name(self) -> str:
        """The name of its result: `as`, else the tool's in lower case (MCP: the part after the last `__`)."""
        if self.result is not None:
            return self.result
        plain = self.tool.rsplit("__", 1)[-1] or self.tool
        return re.sub(r"\W", "_", plain.lower(), flags=re.ASCII)[:40]


class Usage(_Strict):
    """The tokens that the reply reports."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None


class Fault(_Strict):
    """What happens instead of the reply; with `times`, only for that many attempts of the same request."""

    status: Annotated[int | None, Field(ge=400, le=599)] = None
    message: str | None = None
    retry_after: Seconds | None = None
    resets_after: Seconds | None = None
    kind: FaultKind | None = None
    times: Annotated[int | None, Field(ge=1)] = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.status is None) == (self.kind is None):
            raise ValueError("give either status (an HTTP error) or kind (a broken reply)")
        given = (self.message, self.retry_after, self.resets_after)
        if self.kind is not None and any(one is not None for one in given):
            raise ValueError("message, retry_after and resets_after belong to status, not to kind")
        return self


class Reply(_Strict):
    """The answer to one model call."""

    calls: tuple[Call, ...] = Field(default=(), strict=False)
    say: Template | None = None
    thinking: Template | None = None
    when: Condition = True
    stop: StopReason | None = None
    usage: Usage = Usage()
    delay_seconds: Seconds | None = None
    stream_seconds: Seconds = 0.0
    repeat: Annotated[int, Field(ge=1, le=templates.MAX_TEXT)] = 1
    fault: Fault | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.calls or self.say is not None:
            return self
        if self.fault is None:
            raise ValueError("a reply needs say, calls or a fault")
        if self.fault.times is not None:
            raise ValueError("a fault that ends (times) needs say or calls for the attempt that follows")
        return self


class Part(_Strict):
    """One part of the script: which requests it answers, and how, call by call."""

    part: Annotated[str, Field(min_length=1, max_length=80)]
    match: Match = Match()
    replies: Annotated[tuple[Reply, ...], Field(min_length=1, strict=False)]


class Script(_Strict):
    """A whole script: parts in order, the first that matches answers."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    model_seconds: Seconds = 0.0
    parts: Annotated[tuple[Part, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [part.part for part in self.parts]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"the part {name!r} is defined {names.count(name)} times; every part needs its own name"
                )
        return self


@dataclass(frozen=True, slots=True)
class Loaded:
    """A script and where it came from: `place` gives `file:line` for messages."""

    script: Script
    file: str
    source: yaml_source.Source

    def place(self, *path: str | int) -> str:
        """The file and line of the value at `path`."""
        return f"{self.file}:{self.source.line(path)}"


def load(file: Path) -> Loaded:
    """The script in `file`; raises ScriptError with every problem found."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ScriptError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ScriptError(f"{file}:{line}: not UTF-8 text") from None
    return parse(text, str(file))


def parse(text: str, file: str = "script") -> Loaded:
    """The script in `text`, `file` naming it in messages; raises ScriptError with every problem found."""
    try:
        source = yaml_source.read(text)
    except yaml_source.SourceError as error:
        raise ScriptError(f"{file}:{error.line}: {error.problem}") from None
    try:
        script = Script.model_validate(source.root)
    except ValidationError as error:
        all_of_them = error.errors(include_url=False)
        first_hand = [details for details in all_of_them if details["type"] != "too_short"]
        found = [_problem(details, source, file) for details in first_hand or all_of_them]
        raise ScriptError("\n".join(dict.fromkeys(found))) from None
    return Loaded(script, file, source)


_MODELS: dict[str, type[_Strict]] = {
    "match": Match,
    "calls": Call,
    "usage": Usage,
    "fault": Fault,
    "replies": Reply,
    "parts": Part,
}


_PLAIN_WORDS = {
    "model_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "string_type": "must be text; put quotes around it",
}


def _problem(details: ErrorDetails, source: yaml_source.Source, file: str) -> str:
    path = tuple(details["loc"])
    known = _real_path(path, source.root)
    where = f"{file}:{source.line(known)}: "
    name = _dotted(known)
    if details["type"] == "extra_forbidden":
        return where + _unknown_key(path)
    message = _PLAIN_WORDS.get(details["type"], details["msg"].removeprefix("Value error, "))
    if details["type"] == "missing":
        return f"{where}{_dotted(path[:-1]) or 'the script'} needs the key {path[-1]!r}"
    given = "" if isinstance(details["input"], (dict, list)) else f" (given: {str(details['input'])[:60]!r})"
    return f"{where}{name + ': ' if name else ''}{message}{given if details['type'] != 'value_error' else ''}"


def _real_path(path: tuple[str | int, ...], root: object) -> tuple[str | int, ...]:
    """`path` as far as it exists in the document, without what the validator adds for alternatives."""
    here = root
    for length, step in enumerate(path):
        if isinstance(here, dict) and step in here:
            here = cast("dict[str | int, object]", here)[step]
        elif isinstance(here, list) and isinstance(step, int) and step < len(cast("list[object]", here)):
            here = cast("list[object]", here)[step]
        else:
            return path[:length]
    return path


def _dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _unknown_key(path: tuple[str | int, ...]) -> str:
    key = str(path[-1])
    around = next((str(step) for step in reversed(path[:-1]) if isinstance(step, str)), "")
    model = _MODELS.get(around, Script)
    valid = [str(field.alias or name) for name, field in model.model_fields.items()]
    close = difflib.get_close_matches(key, valid, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{_dotted(path[:-1]) or 'the script'} has no key {key!r}; {hint}valid: {', '.join(valid)}"
