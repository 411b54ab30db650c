"""The read-only git calls that an agent may make: which commands, options and arguments, and nothing else.

What runs programs, writes files or reads outside of the checkout is not on the lists: `--output`, `--ext-diff`,
`--textconv`, `--no-index`, `--contents`, `%G` in a format, `--submodule=log`, and every abbreviation of an option.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.errors import InvalidError

COMMANDS = ("log", "show", "diff", "blame", "status")
MAX_ARGUMENTS = 50
MAX_ARGUMENT_CHARACTERS = 1000
_WITH_VALUE = frozenset({"-n", "-L", "-S", "-G", "-U"})
_ANY = r"[^\0]*"
_NUMBER = r"\d{1,6}"
_HISTORY = (
    rf"-{_NUMBER}|-n{_NUMBER}|--max-count={_NUMBER}|--skip={_NUMBER}",
    r"--oneline|--graph|--all|--branches|--tags|--remotes|--first-parent|--reverse|--follow|--merges|--no-merges",
    r"--topo-order|--date-order|--abbrev-commit|--no-abbrev-commit|--decorate|--no-decorate|-i|--parents|--no-walk",
    rf"--(?:since|until|after|before|author|committer|grep|date)={_ANY}",
    rf"(?:--format|--pretty)=(?!{_ANY}%[-+ ]?G){_ANY}",
    rf"-L{_ANY}",
)
_DIFF = (
    r"--stat(?:=[\d,]+)?|--numstat|--shortstat|--summary|--name-only|--name-status|-p|--patch|--no-patch|-s|--raw",
    rf"-U{_NUMBER}|--unified={_NUMBER}|-w|-b|--ignore-all-space|--ignore-space-change|--ignore-blank-lines|--minimal",
    r"-M|-C|--find-renames|--no-renames|--diff-filter=[A-Za-z]+|--word-diff|--relative|--full-index|--merge-base|-m|-c",
    rf"-S{_ANY}|-G{_ANY}|--pickaxe-regex|--pickaxe-all",
)
_OPTIONS: dict[str, Sequence[str]] = {
    "log": (*_HISTORY, *_DIFF),
    "show": (*_HISTORY, *_DIFF),
    "diff": (*_DIFF, r"--cached|--staged"),
    "blame": (rf"-L{_ANY}|-w|-M|-C|-e|-s|-l|-f|-n|--since={_ANY}|--date={_ANY}|--first-parent",),
    "status": (r"-s|--short|-b|--branch|--porcelain|--long|-u(?:no|normal|all)|--untracked-files=(?:no|normal|all)",),
}
_PATTERNS = {command: re.compile("|".join(f"(?:{one})" for one in given)) for command, given in _OPTIONS.items()}


_REVISION_AND_FILE = 2


def checked_call(command: str, arguments: Sequence[str]) -> list[str]:
    """Return the words of the call after `git`, in the form in which it is run.

    Raises:
        InvalidError: the command, an option or an argument is not allowed; the hint says what is.
    """
    if command not in COMMANDS:
        raise InvalidError(f"{command[:40]!a} is not one of the commands", hint=f"use {', '.join(COMMANDS)}")
    if len(arguments) > MAX_ARGUMENTS or any(len(one) > MAX_ARGUMENT_CHARACTERS for one in arguments):
        hint = f"give at most {MAX_ARGUMENTS}, each of at most {MAX_ARGUMENT_CHARACTERS} characters"
        raise InvalidError("too many or too long arguments", hint=hint)
    options, others, paths = _sorted(command, arguments)
    for one in (*others, *paths):
        _check_inside(one)
    if command == "blame" and len(others) + len(paths) < _REVISION_AND_FILE:
        others.insert(0, "HEAD")  # without a revision it reads the file itself, also through a link out of the checkout
    fixed = _fixed(command)
    return [command, *fixed, *options, *others, *(["--", *paths] if paths else [])]


def _sorted(command: str, arguments: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The options, revisions or paths before `--`, and paths after it."""
    options, others, paths = list[str](), list[str](), list[str]()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return options, others, rest
        if not word.startswith("-"):
            others.append(word)
            continue
        if word in _WITH_VALUE and rest and not (word == "-n" and command == "blame"):
            word += rest.pop(0)
        if not _PATTERNS[command].fullmatch(word):
            hint = "options have the form --name=value, are written out, and only read this repository"
            raise InvalidError(f"git {command} may not have {word[:60]!a}", hint=hint)
        options.append(word)
    return options, others, paths


def _check_inside(word: str) -> None:
    """Check that the word is a revision, or a path that does not lead out of the checkout."""
    if "\0" in word or word.startswith(("/", "~", "-")) or ".." in word.split("/"):
        raise InvalidError(f"{word[:80]!a} leads out of this checkout", hint="give a revision, or a path below it")


def _fixed(command: str) -> Sequence[str]:
    if command == "status":
        return ("--ignore-submodules=dirty",)
    if command == "blame":
        return ()
    return ("--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "--submodule=short", "--no-color")
