"""Reads personas from the project's `.claude/agents` and `.fleet/agents`, from `~/.claude/agents` and from the package.

Each file is both a Claude Code sub-agent and a persona of ours. Its front matter and text are read; nothing is run.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orchestrator import untrusted
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import Policy
from orchestrator.errors import InvalidError, NotFoundError
from orchestrator.front_matter import FrontMatter
from orchestrator.paths import asset

MAX_BYTES = 128 * 1024
MAX_SHOWN_CHARACTERS = 80
"""of an invalid value, in the error that quotes it"""
MAX_BRACKETS = 200
"""5,000 open brackets keep the YAML reader busy for 17 s (ruamel.yaml 0.19, measured)"""


def folders(project: Path, home: Path | None) -> list[Path]:
    """The folders that are searched for personas; the first file with a name wins."""
    own = [home / ".claude" / "agents"] if home is not None else []
    return [project / ".claude" / "agents", project / ".fleet" / "agents", *own, asset("agents")]


def find_persona(name: str, project: Path, home: Path | None, hidden: Sequence[Path] = ()) -> Persona:
    """The persona with this name; `hidden` are folders that a link of the project must not lead into.

    Raises:
        NotFoundError: no file has this name; the hint lists the names that exist.
        InvalidError: its file is not a valid persona; the message names the file and the key.
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
    """Every persona that an agent can have, each name once; invalid files and orchestrators are skipped.

    `hidden` are folders that a link of the project must not lead into.
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
        # Claude Code accepts `description: Use this: always`, which is not valid YAML; read it line by line
        pairs = (line.partition(":") for line in head.splitlines() if ":" in line and not line.startswith(" "))
        return {key.strip(): value.strip() for key, _, value in pairs}
    return cast("Mapping[str, Any]", loaded) if isinstance(loaded, dict) else {}


def _persona(path: Path, front: Mapping[str, Any], body: str) -> Persona:
    if not body:
        raise InvalidError(f"{path}: the persona has no prompt", hint="write it below the front matter")
    front_matter = _validated(path, front)
    return Persona(
        name=front_matter.name,
        description=front_matter.description,
        prompt=body,
        source=str(path),
        tools=front_matter.tools,
        model=front_matter.model,
        produces=front_matter.produces,
        max_turns=front_matter.max_turns,
        ask=front_matter.ask,
        deny=front_matter.deny,
        policy=tuple(Policy(answer=entry.answer, kind=entry.kind, tool=entry.tool) for entry in front_matter.policy),
        answer_within_seconds=front_matter.answer_within,
        default_answer=front_matter.default_answer,
        children=front_matter.children,
        fans_out=front_matter.fans_out,
        verdict=front_matter.verdict,
    )


def _name(path: Path, front: Mapping[str, Any]) -> str:
    return str(front.get("name", path.stem))


def _validated(path: Path, front: Mapping[str, Any]) -> FrontMatter:
    """The validated front matter; a key without a value counts as missing.

    Raises:
        InvalidError: names the file, each invalid key and the reason, with an example of a valid line.
    """
    present = {key: value for key, value in front.items() if key in FrontMatter.model_fields and value is not None}
    try:
        return FrontMatter.model_validate({**present, "name": _name(path, front)})
    except ValidationError as error:
        problems = error.errors(include_url=False)
        keys = dict.fromkeys(str(problem["loc"][0]) for problem in problems)
        examples = [str(entry) for key in keys for entry in FrontMatter.model_fields[key].examples or ()]
        raise InvalidError(
            f"{path}: {'; '.join(map(_problem, problems))}", hint=f"write e.g. {', '.join(examples)}"
        ) from error


def _problem(problem: ErrorDetails) -> str:
    """One mistake in words: the key, its value, and why that is not valid."""
    key, *inside = problem["loc"]
    place = f"{key}{''.join(f'[{step}]' if isinstance(step, int) else f'.{step}' for step in inside)}"
    given = repr(problem["input"])
    value = given if len(given) <= MAX_SHOWN_CHARACTERS else f"{given[:MAX_SHOWN_CHARACTERS]}…"
    return f"{place}: {value}: {_explanation(problem)}"


def _explanation(problem: ErrorDetails) -> str:
    raised = problem.get("ctx", {}).get("error")
    return str(raised) if raised is not None else problem["msg"][:1].lower() + problem["msg"][1:]
