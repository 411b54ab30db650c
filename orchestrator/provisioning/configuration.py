"""The git settings that change what git sees, read as data: the repository's own, the user's and the machine's.

Only fixed words reach Fleet's git. No program that a setting names is ever run, filters of the user included: they
would run in the daemon on content that an agent chose.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.provisioning.files import ChangesUnknownError, read_bounded

MAX_INCLUDES = 5
"""configuration files of the user that include each other in a row"""
MAX_FILES = 50
"""how many files git may read for the settings of one checkout"""
SYSTEM = Path("/etc/gitconfig")
BOOLEANS = frozenset({"true", "false", "yes", "no", "on", "off", "1", "0"})
WORDS = {
    "core.autocrlf": BOOLEANS | {"input"},
    "core.eol": frozenset({"lf", "crlf", "native"}),
    "core.filemode": BOOLEANS,
    "core.ignorecase": BOOLEANS,
    "core.precomposeunicode": BOOLEANS,
    "core.symlinks": BOOLEANS,
}
"""the settings that Fleet's git takes over, and their values; none that only makes git overlook edits"""
FALSE = frozenset({"false", "no", "off", "0"})
_SECTION = re.compile(r'\s*\[\s*([\w.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]')
_SETTING = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:=\s*(.*))?$")
_LINE = re.compile(r'((?:[^"\\#;\n]|\\[\s\S]|"(?:[^"\\\n]|\\[\s\S])*+"?+)*+(?:[#;][^\n]*+)?)\n?')
"""continues after a backslash at the end of a line, except in a comment"""
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b"}

GitSettings = Mapping[str, str]
"""values by key; section and name in lower case, a subsection as it is written"""


def read_git_settings(path: Path) -> GitSettings:
    """The settings of one file, without those of files that it includes; empty if it is missing.

    Raises:
        ChangesUnknownError: it is not a regular file, cannot be read, or is too large.
    """
    return dict(_settings(_content(path)))


def user_settings(environment: Mapping[str, str]) -> GitSettings:
    """The settings of the machine and of the user, with the files that these include by their path.

    Raises:
        ChangesUnknownError: as in `read_git_settings`.
    """
    files = _user_files(environment)
    return {key: value for file in files for key, value in _included(file, environment, MAX_INCLUDES)}


def check_files(own: Sequence[Path], environment: Mapping[str, str]) -> None:
    """Check that git need not wait for these settings files, the user's, or any that they may include.

    Raises:
        ChangesUnknownError: as in `read_git_settings`, or there are too many.
    """
    waiting = [*own, *_user_files(environment)]
    for file in waiting:  # it grows meanwhile
        named = (one for key, one in _settings(_content(file)) if key.startswith("include") and key.endswith(".path"))
        for value in named:
            if value.startswith("%("):
                raise ChangesUnknownError(f"{file} includes a file by %(…), and only git knows where that is")
            if (other := file.parent / _expanded(value, environment)) not in waiting:
                waiting.append(other)
            if len(waiting) > MAX_FILES:
                raise ChangesUnknownError(f"{file} is one of more than {MAX_FILES} files with settings of git")


def _user_files(environment: Mapping[str, str]) -> list[Path]:
    files = [] if environment.get("GIT_CONFIG_NOSYSTEM") else [SYSTEM]
    if (instead := environment.get("GIT_CONFIG_GLOBAL")) is not None:
        files += [Path(instead)] if instead else []
    elif environment.get("HOME"):
        files += [_config_folder(environment) / "config", Path(environment["HOME"], ".gitconfig")]
    return files


def options(settings: GitSettings) -> list[str]:
    """Return the options of git that carry these settings over; values that git does not know are left out."""
    known = {key: settings[key].lower() for key in WORDS if settings.get(key, "").lower() in WORDS[key]}
    return [word for key, value in known.items() for word in ("-c", f"{key}={value}")]


def compares_modes(settings: GitSettings) -> bool:
    """Whether the user's git counts a file as changed if its mode differs."""
    return settings.get("core.filemode", "true").lower() not in FALSE


def disk_options(settings: GitSettings, git_dir: Path) -> list[str]:
    """Return the options of git for this disk, whatever is configured: a wrong setting would hide modes or new names.

    A disk without modes shows every file as executable.
    """
    head = git_dir / "HEAD"
    try:
        found = head.stat()
        has_modes = compares_modes(settings) or not found.st_mode & stat.S_IXUSR
    except OSError:
        return []
    values = {"core.filemode": has_modes, "core.ignorecase": _ignores_case(head, found)}
    return [word for key, value in values.items() for word in ("-c", f"{key}={str(value).lower()}")]


def _ignores_case(head: Path, found: os.stat_result) -> bool:
    try:
        return found.st_nlink == 1 and os.path.samestat(found, head.with_name("head").lstat())
    except OSError:
        return False


def named_file(settings: GitSettings, key: str, default: str, checkout: Path, environment: Mapping[str, str]) -> Path:
    """Return the file that a setting such as `core.excludesFile` names, or the user's default one."""
    named = settings.get(key)
    if named is None:
        return _config_folder(environment) / default
    return checkout / _expanded(named, environment)


def filters(settings: GitSettings) -> frozenset[str]:
    """Return the names of the filters that git would run when it reads a file of the working tree."""
    parts = [(key.rpartition("."), value) for key, value in settings.items() if key.startswith("filter.")]
    return frozenset(name.partition(".")[2] for (name, _, key), value in parts if key in {"clean", "process"} and value)


def _config_folder(environment: Mapping[str, str]) -> Path:
    named = environment.get("XDG_CONFIG_HOME")
    return Path(named or Path(environment.get("HOME") or "/nonexistent", ".config"), "git")


def _expanded(path: str, environment: Mapping[str, str]) -> Path:
    text = path.replace("\0", "")
    if text.startswith("~/"):
        return Path(environment.get("HOME") or "/nonexistent", text[2:])
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path raises an error for an unknown user


def _content(file: Path) -> str:
    """What the file says; nothing if it is missing, or leads to the null device, which git reads too."""
    if os.path.realpath(file) == os.devnull:
        return ""
    return (read_bounded(file) or b"").decode(errors="surrogateescape")


def _included(file: Path, environment: Mapping[str, str], depth: int) -> Iterator[tuple[str, str]]:
    for key, value in _settings(_content(file)):
        yield key, value
        if key == "include.path" and depth > 0:
            yield from _included(file.parent / _expanded(value, environment), environment, depth - 1)


def _settings(text: str) -> Iterator[tuple[str, str]]:
    """Yield the settings in their order; a key without a value is `true`."""
    section = ""
    for line in _LINE.finditer(text.removeprefix("\ufeff").replace("\r\n", "\n")):
        rest = line[1].replace("\\\n", "")
        while (head := _SECTION.match(rest)) is not None:
            section = head[1].lower() + ("" if head[2] is None else "." + _ESCAPED.sub(r"\1", head[2]))
            rest = rest[head.end() :]
        if section and (setting := _SETTING.match(rest)) is not None:
            yield f"{section}.{setting[1].lower()}", "true" if setting[2] is None else _value(setting[2])


def _value(text: str) -> str:
    """The value without quotes, comment and surrounding blanks."""
    parts: list[str] = []
    is_quoted = False
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            parts.append(_ESCAPES.get(escaped, escaped))
        elif character == '"':
            is_quoted = not is_quoted
        elif character in "#;" and not is_quoted:
            break
        else:
            parts.append(character)
    return "".join(parts).strip(" \t\r\n")
