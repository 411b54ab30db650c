"""Finds personas: `.claude/agents` and `.fleet/agents` of the project, `~/.claude/agents`, then the package.

One file has two readers: it is a Claude Code sub-agent and our persona. Only its front matter and its text are read;
nothing in it is run.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orchestrator import untrusted
from orchestrator.domain.duration import parse_duration
from orchestrator.domain.persona import BY_PLAN, BY_TOOLS, Persona
from orchestrator.domain.question import Policy, policies
from orchestrator.errors import InvalidError, NotFoundError
from orchestrator.paths import asset

MAX_BYTES = 128 * 1024
MAX_NAME_CHARACTERS = 100
MAX_TURN_DIGITS = 9
MAX_BRACKETS = 200
"""5,000 open brackets keep the YAML reader busy for 17 s (ruamel.yaml 0.19, measured)"""
MODEL_OF_CALLER = "inherit"


def folders(project: Path, home: Path | None) -> list[Path]:
    """Where personas are looked for, the first file of a name wins."""
    own = [home / ".claude" / "agents"] if home is not None else []
    return [project / ".claude" / "agents", project / ".fleet" / "agents", *own, asset("agents")]


def find_persona(name: str, project: Path, home: Path | None, hidden: Sequence[Path] = ()) -> Persona:
    """The persona of this name; `hidden` are folders into which no link of a project leads.

    Raises:
        NotFoundError: no file has it; with those that exist.
        InvalidError: its file cannot be a persona; with the place.
    """
    for path in _files(project, home):
        try:
            front, body = _split(path, project, hidden)
        except InvalidError:
            if path.stem == name:
                raise
            continue
        if _name(path, front) == name:
            return _persona(path, front, body)
    names = sorted({persona.name for persona in list_personas(project, home, hidden)})
    close = difflib.get_close_matches(name, names, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    raise NotFoundError(f"no persona {name[:80]!r}", hint=f"{meant}personas here: {', '.join(names)}")


def list_personas(project: Path, home: Path | None, hidden: Sequence[Path] = ()) -> list[Persona]:
    """Every persona that an agent can have, each name once; broken files and orchestrators are left out.

    `hidden` are folders into which no link of a project leads.
    """
    found: dict[str, Persona] = {}
    for path in _files(project, home):
        try:
            persona = _persona(path, *_split(path, project, hidden))
        except InvalidError:
            continue
        if not persona.orchestrates:
            found.setdefault(persona.name, persona)
    return list(found.values())


def _files(project: Path, home: Path | None) -> Iterator[Path]:
    for folder in folders(project, home):
        if folder.is_dir():
            yield from sorted(path for path in folder.glob("*.md") if path.is_file())


def _split(path: Path, project: Path, hidden: Sequence[Path]) -> tuple[Mapping[str, Any], str]:
    try:
        raw = untrusted.head(path, MAX_BYTES + 1, within=project, never=hidden)
        if len(raw) > MAX_BYTES:
            raise InvalidError(f"{path}: has more than {MAX_BYTES} bytes", hint="shorten the prompt")
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"{path}: cannot be read: {error}", hint="save it as UTF-8 text") from error
    if not text.startswith("---"):
        return {}, text
    head, _, body = text.removeprefix("---").partition("\n---")
    return _front_matter(path, head), body.partition("\n")[2].strip()


def _front_matter(path: Path, head: str) -> Mapping[str, Any]:
    if head.count("[") + head.count("{") > MAX_BRACKETS:
        raise InvalidError(f"{path}: its front matter is nested too deeply", hint="write plain `key: value` lines")
    try:
        loaded: object = YAML(typ="safe").load(io.StringIO(head))  # pyright: ignore[reportUnknownMemberType] - untyped library
    except (YAMLError, ValueError, RecursionError):
        # Claude Code takes `description: Use this: always`, which is no YAML; line by line it means the same
        pairs = (line.partition(":") for line in head.splitlines() if ":" in line and not line.startswith(" "))
        return {key.strip(): value.strip() for key, _, value in pairs}
    return cast("Mapping[str, Any]", loaded) if isinstance(loaded, dict) else {}


def _persona(path: Path, front: Mapping[str, Any], body: str) -> Persona:
    if not body:
        raise InvalidError(f"{path}: the persona has no prompt", hint="write it below the front matter")
    model = str(front["model"]) if front.get("model") else None
    return Persona(
        name=_checked(path, _name(path, front)),
        description=str(front.get("description", "")).strip(),
        prompt=body,
        source=str(path),
        tools=_tools(path, front.get("tools")),
        model=None if model == MODEL_OF_CALLER else model,
        produces=_produces(path, front),
        max_turns=_max_turns(path, front.get("max_turns")),
        ask=_whole_tools(path, front, "ask"),
        deny=_whole_tools(path, front, "deny"),
        policy=_policy(path, front.get("policy")),
        answer_within_seconds=_answer_within(path, front.get("answer_within")),
        default_answer=str(front.get("default_answer", "")).strip(),
        children=_children(path, front.get("children")),
        fans_out=_fans_out(path, front),
        verdict=_verdict(path, front.get("verdict")),
    )


def _name(path: Path, front: Mapping[str, Any]) -> str:
    return str(front.get("name", path.stem))


def _checked(path: Path, name: str) -> str:
    if not (name.isprintable() and name.strip() and len(name) <= MAX_NAME_CHARACTERS):
        raise InvalidError(f"{path}: name: {name[:80]!a} is not a valid name", hint="write one short line")
    return name


def _tools(path: Path, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value in {"", "*"}:
            return None
        return tuple(name.strip() for name in value.split(",") if name.strip())
    if isinstance(value, list):
        return tuple(str(name) for name in cast("list[object]", value))
    raise InvalidError(f"{path}: tools: {value!r} is not a list of tools", hint="write `tools: Read, Grep, Glob`")


def _produces(path: Path, front: Mapping[str, Any]) -> str:
    produces = str(front.get("produces", "result.md"))
    plain = produces.isprintable() and len(produces.encode(errors="replace")) <= MAX_NAME_CHARACTERS
    if not plain or Path(produces).name != produces or not produces or produces.startswith("."):
        raise InvalidError(f"{path}: produces: {produces!r} is not a plain file name", hint="write e.g. report.md")
    return produces


def _max_turns(path: Path, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < MAX_TURN_DIGITS:
        value = int(value)  # front matter that is no YAML is text only
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise InvalidError(f"{path}: max_turns: {value!r} is not a positive whole number", hint="write e.g. max_turns: 40")


def _whole_tools(path: Path, front: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The whole tools under this key; a pattern over commands would promise what nobody can keep."""
    names = ("*",) if front.get(key) == "*" else _tools(path, front.get(key)) or ()
    wrong = [name for name in names if "(" in name or "*" in name]
    if wrong:
        raise InvalidError(
            f"{path}: {key}: {', '.join(wrong)} is a pattern; patterns over commands are easily evaded",
            hint=f"name whole tools, e.g. `{key}: Bash, WebFetch`; `always` allows one very command",
        )
    return names


def _policy(path: Path, value: object) -> tuple[Policy, ...]:
    try:
        return policies(value)
    except ValueError as error:
        raise InvalidError(f"{path}: policy: {error}", hint="write `- {tool: WebFetch, answer: allow}`") from error


def _answer_within(path: Path, value: object) -> float | None:
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise InvalidError(f"{path}: answer_within: {error}", hint="write e.g. answer_within: 2h") from error


def _children(path: Path, value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise InvalidError(f"{path}: children: {value!r} is not a whole number", hint="write e.g. children: 5")


def _fans_out(path: Path, front: Mapping[str, Any]) -> str:
    way = front.get("fans_out")
    if way is None:
        return BY_TOOLS
    if way not in (BY_TOOLS, BY_PLAN):
        raise InvalidError(f"{path}: fans_out: {way!r} is neither tools nor plan", hint="write `fans_out: plan`")
    if way == BY_PLAN and not front.get("children"):
        raise InvalidError(f"{path}: fans_out: plan without children", hint="write e.g. `children: 5` beside it")
    return str(way)


def _verdict(path: Path, value: object) -> bool:
    named = {"true": True, "false": False, "none": False}.get(str(value).lower())  # text only, if it is no YAML
    if named is None:
        raise InvalidError(f"{path}: verdict: {value!r} is neither true nor false", hint="write `verdict: true`")
    return named
