"""Generated repositories: random names, layouts and call sites around one function to migrate.

Every file is written twice from the same template, as it is and as it must be afterwards, so that whole trees can be
compared.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.journeys import templates
from tests.journeys.words import Names, choose_names


@dataclass(frozen=True, kw_only=True)
class Place:
    """One line that the migration must change; `is_prose` where no test can see it."""

    path: str
    line: int
    before: str
    after: str
    is_prose: bool


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A repository as it is, and as it must be after its migration (`answer` to the question about prose included).

    `check` is the shell command that runs its tests; `migration` and `task` are what an agent and an orchestrator hear.
    """

    seed: int
    migration: str
    task: str
    check: str
    answer: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    look_alikes: tuple[tuple[str, str], ...]

    def places(self) -> Iterator[Place]:
        """Every line that differs, in order."""
        for path, text in self.before.items():
            pairs = zip(text.splitlines(), self.after[path].splitlines(), strict=True)
            for number, (old, new) in enumerate(pairs, 1):
                if old != new:
                    prose = not path.endswith((".py", ".ini", ".toml")) or old.lstrip().startswith(("#", '"""'))
                    yield Place(path=path, line=number, before=old, after=new, is_prose=prose)


def write(files: Mapping[str, str], root: Path) -> None:
    """Write the files below `root`."""
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def generate(seed: int) -> Repository:
    """The repository of this seed; the same seed gives the same repository."""
    chance = random.Random(seed)
    names = choose_names(chance)
    consumers = _consumers(chance, names)
    answer = chance.choice(["update them", "leave them"])

    def render(*, migrated: bool) -> dict[str, str]:
        return _files(
            templates.Voice(names=names, is_migrated=migrated, is_prose_updated=answer == "update them"),
            consumers,
            random.Random(seed),
        )

    migration = f"{names.dotted}.{names.old}({names.first}, {names.second}) to {names.new}({_shape(names)})"
    check = _check(names)
    ask = f" Docs and comments, should anyone ask: {answer}." if answer == "update them" else ""
    return Repository(
        seed=seed,
        migration=migration,
        task=f"Migrate {migration} in the whole repository.{ask} Run the tests with {check}",
        check=check,
        answer=answer,
        before=render(migrated=False),
        after=render(migrated=True),
        look_alikes=tuple(_look_alikes(names)),
    )


def _shape(names: Names) -> str:
    shapes = {"renamed": f"{names.first}, {names.second}", "swapped": f"{names.second}, {names.first}"}
    return shapes.get(names.shape, f"{names.second}, {names.first}={names.first}")


def _check(names: Names) -> str:
    way = f"PYTHONPATH={names.top.rstrip('/')} " if names.top else ""
    return f"{way}python3 -m unittest"


def _look_alikes(names: Names) -> Iterator[tuple[str, str]]:
    """Path and text of what shares the name and must stay."""
    package = names.top + "/".join(names.package)
    yield f"{names.top}{names.vendor}.py", f"def {names.old}(region, key):"
    yield f"{package}/{names.feed}.py", f"    def {names.old}(self, key):"
    yield f"{package}/{names.feed}.py", f"from {names.vendor} import {names.old}"
    yield f"{package}/{names.counters}.py", f'EVENTS = ("{names.old}", "other")'
    yield f"{package}/{names.module}.py", f"def {names.old}_{names.suffix}(text):"


def _consumers(chance: random.Random, names: Names) -> list[templates.Consumer]:
    """Six to nine modules; the ways to import differ, one of them is always an alias."""
    styles = [
        "alias",
        "module-alias",
        *chance.sample([*templates.STYLES, "from", "relative", "list"], chance.randint(4, 7)),
    ]
    folders = [names.package, (*names.package, names.sub), names.package[:1]]
    return [
        templates.Consumer(
            folder=chance.choice(folders),
            name=name,
            style=style,
            body=chance.randrange(len(templates.BODIES)),
            decoy=style in {"module", "module-alias", "dotted"} and chance.random() < 0.7,
        )
        for name, style in zip(names.consumers, styles, strict=False)
    ]


def _files(voice: templates.Voice, consumers: list[templates.Consumer], chance: random.Random) -> dict[str, str]:
    names = voice.names
    package = names.top + "/".join(names.package)
    files = {
        f"{package}/__init__.py": templates.package_text(voice),
        f"{package}/{names.module}.py": templates.module_text(voice),
        f"{package}/{names.counters}.py": templates.COUNTERS.replace("NAME", names.old),
        f"{package}/{names.feed}.py": templates.feed_text(voice),
        f"{package}/{names.sub}/__init__.py": "",
        f"{names.top}{names.vendor}.py": templates.VENDOR.replace("NAME", names.old),
        f"{names.tests}/__init__.py": "",
        f"{names.tests}/{names.support}.py": templates.SUPPORT.replace("SOURCE", names.source).replace(
            "HOME", names.dotted
        ),
        f"{names.tests}/test_{names.module}.py": templates.module_test_text(voice),
        "README.md": templates.readme_text(voice),
        f"docs/{names.sub}.rst": f"{names.sub}\n====\nSee ``{voice.prose_call()}`` in :mod:`{names.package[0]}`.\n",
        "jobs.ini": f"; called with keyword arguments\n[jobs]\nnightly = {names.dotted}:{voice.ref}\n",
        ".gitignore": "__pycache__/\n*.pyc\n",
    }
    if len(names.package) > 1:
        files[f"{names.top}{names.package[0]}/__init__.py"] = ""
    for consumer in consumers:
        files[f"{names.top}{'/'.join(consumer.folder)}/{consumer.name}.py"] = templates.consumer_text(
            voice, consumer, chance
        )
        files[f"{names.tests}/test_{consumer.name}.py"] = templates.consumer_test_text(voice, consumer)
    return files
