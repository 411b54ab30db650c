"""Reads personas from the project's `.claude/agents` and `.fleet/agents`, from `~/.claude/agents` and from the package.

Each file is both a Claude Code sub-agent and a persona of ours. Its front matter and text are read; nothing is run.
Reading a hostile folder takes seconds at worst: call these functions in a thread.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from orchestrator.domain.persona import Persona
from orchestrator.domain.question import Policy
from orchestrator.domain.ranking import is_similar, nearest
from orchestrator.domain.text import MAX_VALUE_CHARACTERS, listed, named, named_path, named_value, quantity, quoted
from orchestrator.errors import InvalidError, NotFoundError
from orchestrator.foreign_keys import ForeignError, translated, with_claudes_rules
from orchestrator.front_matter import MAX_NAME_CHARACTERS, FrontMatter, is_valid
from orchestrator.paths import asset
from orchestrator.persona_files import Folder, PersonaFile, PersonaReader

MAX_PROBLEMS = 4
MAX_SHOWN_NAMES = 12


@dataclass(frozen=True, kw_only=True)
class Personas:
    """What the folders hold: personas, each name once, and an error for each file or folder that has a mistake."""

    found: tuple[Persona, ...]
    problems: tuple[InvalidError, ...]


def folders(project: Path, home: Path | None) -> list[Folder]:
    """The folders that are searched for personas; the first file with a name wins."""
    claudes, fleets = ".claude/agents", ".fleet/agents"
    own = [Folder(path=home / claudes, shown=f"~/{claudes}")] if home is not None else []
    return [
        Folder(path=project / claudes, shown=claudes),
        Folder(path=project / fleets, shown=fleets, is_fleets=True),
        *own,
        Folder(path=asset("agents"), shown="", is_fleets=True),
    ]


def find_persona(name: str, project: Path, home: Path | None, hidden: Sequence[Path] = ()) -> Persona:
    """The persona with this name; `hidden` are folders that a link of the project must not lead into.

    Raises:
        NotFoundError: no file has this name; the hint lists the names that exist.
        InvalidError: its file is not a valid persona; the message names the file and the key.
    """
    reader = PersonaReader(project=project, hidden=hidden)
    for file in _files(reader, home):
        if isinstance(file, PersonaFile) and file.name == name:
            whole = reader.read(file.path, file.folder)
            if whole is not None and whole.name == name:
                return _persona(whole)
    listing = list_personas(project, home, hidden)
    names = nearest(name, [persona.name for persona in listing.found])
    meant = f"did you mean {named(names[0])}? " if names and is_similar(name, names[0]) else ""
    wrong = f"; fleet doctor: {quantity(len(listing.problems), 'mistake')} in others" if listing.problems else ""
    hint = f"{meant}personas here: {listed(names, MAX_SHOWN_NAMES)}{wrong}"
    raise NotFoundError(f"no persona {name[:80]!r}", hint=hint)


def own_persona(name: str) -> Persona | None:
    """Fleet's own persona of this name, if there is one."""
    return next((_persona(file) for file in _own_files() if file.name == name), None)


@cache
def own_names() -> frozenset[str]:
    """The names of Fleet's own personas."""
    return frozenset(str(file.name) for file in _own_files())


def _own_files() -> Iterator[PersonaFile]:
    folder = Folder(path=asset("agents"), shown="", is_fleets=True)
    reader = PersonaReader(project=folder.path)
    return (file for file in reader.files(folder) if isinstance(file, PersonaFile))


def list_personas(project: Path, home: Path | None, hidden: Sequence[Path] = ()) -> Personas:
    """Every persona that an agent can have, as far as the first kilobytes of its file tell; without orchestrators.

    `hidden` are folders that a link of the project must not lead into.
    """
    found: dict[str, Persona | None] = {}
    problems: list[InvalidError] = []
    for file in _files(PersonaReader(project=project, hidden=hidden), home):
        if isinstance(file, str):
            problems.append(InvalidError(file))
            continue
        try:
            persona = _persona(file)
        except InvalidError as error:
            problems.append(error)
            found.setdefault(str(file.name), None)  # it hides others of its name, as it does when it is asked for
            continue
        found.setdefault(persona.name, None if persona.orchestrates else persona)
    return Personas(found=tuple(one for one in found.values() if one is not None), problems=tuple(problems))


def _files(reader: PersonaReader, home: Path | None) -> Iterator[PersonaFile | str]:
    """The files that Claude Code would take for personas or would refuse, and the bounds that were hit."""
    for folder in folders(reader.project, home):
        for file in reader.files(folder):
            if isinstance(file, str) or file.name not in (None, ""):
                yield file


def _persona(file: PersonaFile) -> Persona:
    if file.problem:
        raise InvalidError(f"{named_path(file.path)}: {file.problem}", hint="correct or remove the file")
    _check_is_taken(file)
    front, warnings = _fleets_keys(file)
    front_matter = _validated(file.path, front)
    return Persona(
        name=front_matter.name,
        description=front_matter.description,
        prompt=file.body,
        source=str(file.path),
        origin=file.folder.shown and f"{file.folder.shown}/{file.path.relative_to(file.folder.path)}",
        digest=file.digest,
        is_foreign=not file.folder.is_fleets,
        warnings=warnings,
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
        commits=front_matter.commits,
    )


def _check_is_taken(file: PersonaFile) -> None:
    """Check what Claude Code 2.1.329 requires of a file before it takes it for a sub-agent (measured).

    Raises:
        InvalidError: Claude Code would ignore the file, or Fleet cannot show its name.
    """
    name, description = file.name, file.front.get("description")
    if not isinstance(name, str):
        raise InvalidError(
            f"{named_path(file.path)}: name: {named_value(name)} is not text",
            hint=f"write it in quotes: name: {quoted(str(name), MAX_VALUE_CHARACTERS)}",
        )
    if name.startswith("-") or ":" in unicodedata.normalize("NFKC", name) or len(name) > MAX_NAME_CHARACTERS:
        raise InvalidError(
            f"{named_path(file.path)}: name: {named_value(name)} begins with `-`, has a colon or is too long",
            hint="choose another: Claude Code ignores the file, too",
        )
    if not file.folder.is_fleets and not (isinstance(description, str) and description):
        raise InvalidError(
            f"{named_path(file.path)}: has no description text, so Claude Code ignores it, too",
            hint="write e.g. description: Finds files",
        )


def _fleets_keys(file: PersonaFile) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """The front matter in Fleet's keys, and warnings; `tools` without a value means no tools, as in Claude Code.

    Raises:
        InvalidError: a key restricts the agent in a way that Fleet cannot keep.
    """
    front = dict(file.front)
    if "tools" in front and front["tools"] is None:
        front["tools"] = ""
    keys = frozenset(FrontMatter.model_fields)
    try:
        if file.folder.is_fleets:
            return with_claudes_rules(front, keys), ()
        done = translated(front, keys, is_valid)
    except ForeignError as error:
        raise InvalidError(
            f"{named_path(file.path)}: {error}", hint="use Fleet's keys instead, or remove it"
        ) from error
    return done.front, done.warnings


def _validated(path: Path, front: Mapping[str, object]) -> FrontMatter:
    """The validated front matter; a key without a value counts as missing.

    Raises:
        InvalidError: names the file, each invalid key and the reason, with an example of a valid line.
    """
    present = {key: value for key, value in front.items() if key in FrontMatter.model_fields and value is not None}
    try:
        return FrontMatter.model_validate(present)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        keys = dict.fromkeys(str(problem["loc"][0]) for problem in problems)
        examples = [str(entry) for key in keys for entry in FrontMatter.model_fields[key].examples or ()]
        more = f" and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise InvalidError(
            f"{named_path(path)}: {'; '.join(map(_problem, problems[:MAX_PROBLEMS]))}{more}",
            hint=f"write e.g. {', '.join(examples)}",
        ) from error


def _problem(problem: ErrorDetails) -> str:
    """One mistake in words: the key, its value, and why that is not valid."""
    key, *inside = problem["loc"]
    steps = (f"[{step}]" if isinstance(step, int) else f".{named(step, MAX_VALUE_CHARACTERS)}" for step in inside)
    return f"{key}{''.join(steps)}: {named_value(problem['input'])}: {_explanation(problem)}"


def _explanation(problem: ErrorDetails) -> str:
    raised = problem.get("ctx", {}).get("error")
    return str(raised) if raised is not None else problem["msg"][:1].lower() + problem["msg"][1:]
