"""The front matter of a persona's file as one validated model: its keys and their valid values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from orchestrator.domain.duration import parse_duration
from orchestrator.domain.persona import BY_PLAN, BY_TOOLS
from orchestrator.domain.question import INBOX, QuestionKind, checked_answer
from orchestrator.domain.text import listed
from orchestrator.domain.tool_names import is_pattern, names_in
from orchestrator.errors import InvalidError

MAX_NAME_CHARACTERS = 256
"""as in Claude Code"""
MAX_FILE_NAME_BYTES = 100
MAX_DIGITS = 9
MAX_SHOWN = 5
MODEL_OF_CALLER = "inherit"
EVERYTHING = "*"


def _is_short_line(name: str) -> str:
    if not (name.isprintable() and name.strip() and len(name) <= MAX_NAME_CHARACTERS):
        raise ValueError(f"a name is one short line of at most {MAX_NAME_CHARACTERS} characters")
    return name


def _is_plain_file_name(name: str) -> str:
    plain = name.isprintable() and len(name.encode(errors="replace")) <= MAX_FILE_NAME_BYTES
    if not plain or Path(name).name != name or not name or name.startswith("."):
        raise ValueError("not a plain file name")
    return name


def _tool_names(value: object) -> object:
    """Tools as a list, or as text separated by commas or spaces; `*` means every tool."""
    if not isinstance(value, str | list):
        raise ValueError("not a list of tools")  # noqa: TRY004 - pydantic turns only a ValueError into an error with its place
    names = names_in(value) if isinstance(value, str) else [str(name) for name in cast("list[object]", value)]
    return None if EVERYTHING in names else tuple(names)


def _whole_tools(value: object) -> object:
    """Whole tools only: a pattern over commands would promise protection that it cannot give."""
    names = cast("tuple[str, ...] | None", _tool_names(value))
    if names is None:
        raise ValueError(f"{EVERYTHING} is a pattern: name whole tools")
    if wrong := [name for name in names if is_pattern(name)]:
        raise ValueError(
            f"{listed(wrong, MAX_SHOWN)} is a pattern, and patterns over commands are easily evaded: name whole tools; "
            "the answer `always` allows one exact command"
        )
    return names


def _from_digits(value: object) -> object:
    """The number in a text of digits, because front matter that is not YAML holds only text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS:
        return int(value)
    return value


def _model_id(value: object) -> str | None:
    return None if not value or value == MODEL_OF_CALLER else str(value)


Text = Annotated[str, BeforeValidator(str), AfterValidator(str.strip)]
Name = Annotated[str, BeforeValidator(str), AfterValidator(_is_short_line)]
FileName = Annotated[str, BeforeValidator(str), AfterValidator(_is_plain_file_name)]
WholeNumber = Annotated[int, Strict(), BeforeValidator(_from_digits)]
Tools = Annotated[tuple[str, ...] | None, BeforeValidator(_tool_names)]
WholeTools = Annotated[tuple[str, ...], BeforeValidator(_whole_tools)]


class PolicyEntry(BaseModel):
    """One automatic answer: to a kind of question, to permission requests for a tool, or to both."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Literal["question", "permission"] | None = None
    tool: str | None = None
    answer: str

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind is None and self.tool is None:
            raise ValueError(f"names neither a kind ({', '.join(sorted(INBOX))}) nor a tool")
        self.kind = self.kind or "permission"
        if self.kind == "permission":
            try:
                self.answer = checked_answer(QuestionKind.PERMISSION, self.answer)
            except InvalidError as error:
                raise ValueError(f"{error.message}: {error.hint}") from error
        return self


class FrontMatter(BaseModel):
    """The keys above a persona's prompt; other keys belong to Claude Code and are ignored.

    Each key's example is a line of a file, shown to a person whose own line is not valid.
    """

    model_config = ConfigDict(extra="ignore")

    name: Name = Field(examples=["name: scout"])
    description: Text = Field(default="", examples=["description: Finds files"])
    tools: Tools = Field(default=None, examples=["tools: Read, Grep, Glob"])
    model: Annotated[str | None, BeforeValidator(_model_id)] = Field(default=None, examples=["model: haiku"])
    produces: FileName = Field(default="result.md", examples=["produces: report.md"])
    max_turns: WholeNumber | None = Field(default=None, gt=0, examples=["max_turns: 40"])
    ask: WholeTools = Field(default=(), examples=["ask: Bash, WebFetch"])
    deny: WholeTools = Field(default=(), examples=["deny: Bash, WebFetch"])
    policy: tuple[PolicyEntry, ...] = Field(default=(), examples=["policy: [{tool: WebFetch, answer: allow}]"])
    answer_within: Annotated[float | None, BeforeValidator(parse_duration)] = Field(
        default=None, examples=["answer_within: 2h"]
    )
    default_answer: Text = Field(default="", examples=["default_answer: decide yourself"])
    children: WholeNumber = Field(default=0, ge=0, examples=["children: 5"])
    fans_out: Literal["tools", "plan"] = Field(default=BY_TOOLS, examples=["fans_out: plan"])
    verdict: bool = Field(default=False, examples=["verdict: true"])
    commits: bool = Field(default=False, examples=["commits: true"])

    @field_validator("fans_out")
    @classmethod
    def _has_children_to_plan(cls, way: str, info: ValidationInfo) -> str:
        if way == BY_PLAN and not info.data.get("children"):
            raise ValueError("plan without children: write e.g. `children: 5` as well")
        return way


def is_valid(key: str, value: object) -> bool:
    """Whether the key may have this value."""
    needed = {"children": 1} if key == "fans_out" else {}
    try:
        FrontMatter.model_validate({"name": "x", **needed, key: value})
    except ValidationError:
        return False
    return True
