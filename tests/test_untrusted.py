"""What an agent puts into its folder neither leads Fleet elsewhere, nor blocks it, nor floods it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator import untrusted

USES: dict[str, Callable[[Path, str], object]] = {
    "read": lambda root, place: untrusted.read(root, place, 100),
    "lines": lambda root, place: list(untrusted.lines(root, place, 100, 10)),
    "write": lambda root, place: untrusted.write(root, place, b"new"),
    "remove": untrusted.remove,
    "move": lambda root, place: untrusted.move(root, place, "moved"),
    "move to": lambda root, place: untrusted.move(root, "mine", place),
    "make_folder": lambda root, place: untrusted.make_folder(root, f"{place}/deep"),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a file that nobody must touch."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "file").write_text("untouched")
    return place


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The agent's folder."""
    place = tmp_path / "root"
    place.mkdir()
    (place / "mine").write_text("mine")
    return place


def listing(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("use", USES)
def test_no_step_below_the_root_is_a_link(root: Path, outside: Path, use: str) -> None:
    (root / "a").mkdir()
    (root / "a" / "link").symlink_to(outside)
    with pytest.raises(NotADirectoryError, match="is a link"):
        USES[use](root, "a/link/file")
    assert listing(outside) == {"file": "untouched"}


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("place", ["../outside/file", "/etc/hosts", "a/../../outside/file", "a//b", "a\0b/c", "", ".."])
def test_no_place_leads_out_of_the_root(root: Path, outside: Path, use: str, place: str) -> None:
    with pytest.raises(ValueError, match="is not a path in"):
        USES[use](root, place)
    assert listing(outside) == {"file": "untouched"}
    assert listing(root) == {"mine": "mine"}


@pytest.mark.parametrize("name", ["file", ".file.new"])
def test_writing_replaces_a_link_and_does_not_follow_it(root: Path, outside: Path, name: str) -> None:
    (root / name).symlink_to(outside / ("file" if name == "file" else "made"))
    untrusted.write(root, "file", b"new")
    assert listing(root) == {"mine": "mine", "file": "new"}
    assert listing(outside) == {"file": "untouched"}


def test_writing_makes_the_folders_on_the_way_and_nobody_else_may_look_into_them(root: Path) -> None:
    untrusted.write(root, "a/b/c", b"new")
    assert (root / "a" / "b" / "c").read_text() == "new"
    assert {(root / place).stat().st_mode & 0o777 for place in ("a", "a/b")} == {0o700}
    assert (root / "a/b/c").stat().st_mode & 0o777 == 0o600


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link"])
def test_only_a_regular_file_is_read_and_nothing_blocks(root: Path, outside: Path, kind: str) -> None:
    path = root / "x"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case _:
            path.symlink_to(outside / "file")
    with pytest.raises(OSError, match="not a regular file"):
        untrusted.read(root, "x", 100)
    assert not untrusted.is_file(root, "x")
    if kind != "link":
        with pytest.raises(OSError, match="not a regular file"):
            untrusted.head(path, 100)


def test_a_file_that_is_too_large_is_not_read_to_its_end(root: Path) -> None:
    (root / "large").write_bytes(b"ab\n" * 4)
    os.truncate(root / "mine", 2**40)
    assert untrusted.read(root, "large", 12) == b"ab\n" * 4
    assert list(untrusted.lines(root, "large", 12, 2)) == [b"ab", b"\n"] * 4
    for place in ("large", "mine"):
        with pytest.raises(OSError, match="more than 11 bytes"):
            untrusted.read(root, place, 11)
        with pytest.raises(OSError, match="more than 11 bytes"):
            list(untrusted.lines(root, place, 11, 100))
    assert untrusted.head(root / "mine", 5) == b"mine\0"


def test_what_is_shown_may_be_reached_through_links_but_not_where_nobody_may_look(root: Path, outside: Path) -> None:
    (root / "link").symlink_to(outside / "file")
    assert untrusted.head(root / "link", 100, within=root) == b"untouched"
    with pytest.raises(PermissionError, match="must not see"):
        untrusted.head(root / "link", 100, within=root, never=[outside])
    (root / "other").symlink_to(root / "mine")
    assert untrusted.head(root / "other", 100, within=root, never=[root.parent]) == b"mine"
    with pytest.raises(PermissionError, match="must not see"):
        untrusted.head(root / "link", 100, within=root, never=[root.parent])


def test_names_are_those_of_a_real_folder(root: Path, outside: Path) -> None:
    untrusted.make_folder(root, "a/b")
    (root / "link").symlink_to(outside)
    assert untrusted.names(root, "a") == ["b"]
    assert [untrusted.names(root, place) for place in ("link", "mine", "gone")] == [[], [], []]


def test_a_move_takes_the_folder_and_a_removal_of_nothing_is_done(root: Path) -> None:
    untrusted.write(root, "a/file", b"x")
    untrusted.move(root, "a", "b/c")
    assert (root / "b" / "c" / "file").read_text() == "x"
    untrusted.remove(root, "b/c/file")
    untrusted.remove(root, "b/c/file")
    assert listing(root / "b" / "c") == {}
