"""Words for what a turn changed: the one place that makes them, for digests, output and the command line."""

from __future__ import annotations

from orchestrator.domain.text import MAX_LIST_BYTES, ForeignText, listed, listed_paths, named, quantity, quoted, raw
from orchestrator.fleet.state_views import CommittedView
from orchestrator.fleet.views import Changes

SHORT_ID = 8
MAX_REASON_CHARACTERS = 240
SHOWN_FILES = 12


def change_words(
    changes: Changes | None,
    unknown: ForeignText | str,
    *,
    max_files: int = SHOWN_FILES,
    max_bytes: int = MAX_LIST_BYTES,
    same_files_as: str = "",
) -> str:
    """Return what the turn changed on one line, or why that is unknown; '' if the agent cannot change anything.

    `same_files_as` names an agent whose line already lists these files: the reader is referred to it.
    """
    if changes is None:
        return f"changes unknown: {quoted(unknown, MAX_REASON_CHARACTERS)}" if raw(unknown) else ""
    where = "" if _is_told_by_commit(changes) else changes.where
    head = ", ".join(filter(None, [where, _commit(changes)]))
    tail = "".join(f"; {part}" for part in (_moved(changes), _shared(changes), _others(changes)) if part)
    counted = counted_files(changes)
    if counted is None or not counted.files_changed:
        return f"{head}{': ' if head else ''}no files changed{tail}"
    names = f"those of {same_files_as}" if same_files_as else ""
    names = names or listed_paths(counted.files, max_files, limit_bytes=max_bytes, total=counted.files_changed)
    stat = f"{quantity(counted.files_changed, 'file')} +{counted.insertions} -{counted.deletions}"
    return f"{head}{': ' if head else ''}{stat} ({names}){tail}"


def counted_files(changes: Changes) -> Changes | CommittedView | None:
    """Return the files that `change_words` counts: what the turn changed, otherwise what it committed, if anything."""
    return changes if changes.files_changed else changes.committed


def _is_told_by_commit(changes: Changes) -> bool:
    """Whether the place of the changes is the commit that is named anyway."""
    made = changes.committed
    return made is not None and f"committed ({made.commit[:SHORT_ID]})" in changes.where


def _commit(changes: Changes) -> str:
    if (made := changes.committed) is None:
        return ""
    several = f"{changes.commits} commits up to " if changes.commits > 1 else "commit "
    branch = f" on branch {named(made.branch)}" if raw(made.branch) else ""
    inside = f" in {named(made.inside)}" if raw(made.inside) else ""
    return f"{several}{made.commit[:SHORT_ID]}{branch}{inside}"


def _shared(changes: Changes) -> str:
    """Return which commits and files are perhaps not the turn's, and whose they may be."""
    if not changes.files_shared and not changes.commits_shared:
        return ""
    who = listed(changes.shared_with, 3) if changes.shared_with else "the user or a background process"
    if (changes.files_shared, changes.commits_shared) == (changes.files_changed, changes.commits):
        return f"shared with {who}"
    commits = "commit" if changes.commits == 1 else quantity(changes.commits_shared, "commit")
    files = listed_paths(changes.shared, 3, total=changes.files_shared) if changes.files_shared else ""
    return f"shared with {who}: {', '.join(filter(None, [commits if changes.commits_shared else '', files]))}"


def _others(changes: Changes) -> str:
    return f"{quantity(changes.files_of_others, 'file')} changed by others meanwhile" if changes.files_of_others else ""


def _moved(changes: Changes) -> str:
    if not raw(changes.moved):
        return ""
    came = f", {quantity(changes.files_moved, 'file')} came with it" if changes.files_moved else ""
    return f"HEAD moved: {quoted(changes.moved)}{came}"
