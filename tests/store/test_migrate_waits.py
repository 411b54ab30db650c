"""The sentences in an old database: each becomes the wait or the activity that it described."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.activity import Activity, ActivityKind, activity_words
from orchestrator.domain.duration import format_age
from orchestrator.domain.text import named
from orchestrator.domain.wait import Wait, WaitKind, wait_words
from orchestrator.store.engine.migrate import MIGRATIONS, migrate, upgrade
from orchestrator.store.schema.states import read_wait

[PATH] = (MIGRATIONS / "versions").glob("0002_*.py")
COLUMNS = (
    "wait_kind, wait_on, wait_until, wait_detail, wait_blocked, activity, activity_detail, activity_seconds, reason"
)
AT, DUE = 1_800_000_000.0, 1_800_000_600.0
NOTHING = (None, "", None, "", 0)
NO_ACTIVITY = ("", "", None)

OLD = {
    # status, reason: what is read instead, and the reason that is left
    ("queued", "slot"): ("slot", "", None, "", 0, *NO_ACTIVITY, ""),
    ("queued", "recovering"): ("slot", "", None, "", 0, *NO_ACTIVITY, ""),
    ("queued", "inputs: s1, s2"): ("inputs", "s1, s2", None, "", 0, *NO_ACTIVITY, ""),
    ("queued", "its input s1 failed"): ("inputs", "s1", None, "failed", 1, *NO_ACTIVITY, ""),
    ("queued", "its input s1 failed (checks)"): ("inputs", "s1", None, "failed (checks)", 1, *NO_ACTIVITY, ""),
    ("queued", "its input s1 was deleted"): ("inputs", "s1", None, "was deleted", 1, *NO_ACTIVITY, ""),
    ("queued", "its input s1 was interrupted"): ("inputs", "s1", None, "was interrupted", 1, *NO_ACTIVITY, ""),
    ("queued", "w1 writes in this checkout"): ("checkout", "w1", None, "", 0, *NO_ACTIVITY, ""),
    ("queued", "w1 writes in this checkout and waits for an answer"): ("checkout", "w1", None, "", 1, *NO_ACTIVITY, ""),
    ("waiting", "question"): ("question", "", DUE, "", 0, *NO_ACTIVITY, ""),
    ("waiting", "permission"): ("permission", "", DUE, "", 0, *NO_ACTIVITY, ""),
    ("waiting", "children"): ("children", "", None, "", 0, *NO_ACTIVITY, ""),
    ("waiting", "agents"): ("agents", "", None, "", 0, *NO_ACTIVITY, ""),
    ("waiting", "account"): ("account", "", None, "", 0, *NO_ACTIVITY, ""),
    ("waiting", "budget $0.50 of $0.50"): ("budget", "", None, "$0.50 of $0.50", 0, *NO_ACTIVITY, ""),
    ("waiting", "budget of lead 3 turns of 3 turns"): (
        "budget",
        "lead",
        None,
        "3 turns of 3 turns",
        0,
        *NO_ACTIVITY,
        "",
    ),
    ("waiting", "budget of the fleet $9 of $9"): ("budget", "the fleet", None, "$9 of $9", 0, *NO_ACTIVITY, ""),
    ("waiting", "budget: the price is unknown"): ("budget", "", None, "the price is unknown", 1, *NO_ACTIVITY, ""),
    ("waiting", "parked until 14:00"): ("quota", "", AT, "14:00", 0, *NO_ACTIVITY, ""),
    ("waiting", "refused; next try 2026-12-01 14:00"): ("quota", "", AT, "2026-12-01 14:00", 1, *NO_ACTIVITY, ""),
    ("waiting", "retrying 2/5"): ("overload", "", AT, "2/5", 0, *NO_ACTIVITY, ""),
    ("working", ""): (*NOTHING, *NO_ACTIVITY, ""),
    ("working", "starting"): (*NOTHING, "starting", "", None, ""),
    ("working", "recovering"): (*NOTHING, "recovering", "", None, ""),
    ("working", "checking: make test"): (*NOTHING, "checking", "make test", None, ""),
    ("working", "looping: Bash ls: x"): (*NOTHING, "looping", "Bash ls: x", None, ""),
    ("working", "stalled 95 s"): (*NOTHING, "stalled", "", 95.0, ""),
    ("working", "retrying 3/10"): (*NOTHING, "retrying", "3/10", None, ""),
    ("working", "retrying 3/10 in 60 s"): (*NOTHING, "retrying", "3/10", 60.0, ""),
    ("complete", ""): (*NOTHING, *NO_ACTIVITY, ""),
    ("failed", "auth"): (*NOTHING, *NO_ACTIVITY, "auth"),
    ("interrupted", "before it began"): (*NOTHING, *NO_ACTIVITY, "before it began"),
    ("interrupted", "the daemon ended"): (*NOTHING, *NO_ACTIVITY, "the daemon ended"),
    ("deleted", ""): (*NOTHING, *NO_ACTIVITY, ""),
}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of the first schema with an agent for each of the old sentences."""
    migrations = tmp_path / "migrations"
    shutil.copytree(
        MIGRATIONS, migrations, ignore=shutil.ignore_patterns("000[2-9]_*.py", "00[1-9]*_*.py", "__pycache__")
    )
    path = tmp_path / "fleet.db"
    with monkeypatch.context() as context:
        context.setattr("orchestrator.store.engine.migrate.MIGRATIONS", migrations)
        upgrade(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, (status, reason) in enumerate(OLD):
            pending = json.dumps({"deadline_at": DUE}) if reason in {"question", "permission"} else None
            told = {"id": f"ag_{number}", "name": f"a{number}", "status": status, "reason": reason}
            _insert(connection, told | {"wake_at": AT, "pending": pending, "call_key": None})
    return path


def _insert(connection: sqlite3.Connection, given: dict[str, Any]) -> None:
    """Insert an agent; what is not given is empty."""
    empty = {"VARCHAR": "", "INTEGER": 0, "FLOAT": 0.0, "BOOLEAN": 0, "JSON": "{}"}
    columns = connection.execute("PRAGMA table_info(agent)").fetchall()
    row = {name: empty[kind] for _, name, kind, needed, *_ in columns if needed} | given
    marks = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO agent ({', '.join(row)}) VALUES ({marks})", row)


@pytest.mark.requirement("store:upgrade:waits-carried")
def test_every_old_sentence_becomes_the_wait_or_the_activity_that_it_told(old: Path) -> None:
    assert asyncio.run(migrate(old)) is not None
    with closing(sqlite3.connect(old)) as connection:
        found = connection.execute(f"SELECT status, {COLUMNS} FROM agent ORDER BY created_at, rowid").fetchall()
        names = {name for _, name, *_ in connection.execute("PRAGMA table_info(agent)")}
    told = {key: row[1:] for key, row in zip(OLD, found, strict=True)}
    assert told == OLD
    assert "wake_at" not in names


def test_the_words_that_readers_see_are_those_of_the_old_sentences(old: Path) -> None:
    asyncio.run(migrate(old))
    with closing(sqlite3.connect(old)) as connection:
        found = connection.execute(f"SELECT {COLUMNS} FROM agent ORDER BY rowid").fetchall()
    for (_, reason), row in zip(OLD, found, strict=True):
        kind, on, until, detail, blocked, activity, what, seconds, left = row
        wait = read_wait(kind, on, until, detail, blocked=bool(blocked))
        does = Activity(kind=ActivityKind(activity), detail=what, seconds=seconds)
        words = wait_words(wait) if wait is not None else activity_words(does) or left
        assert words == ("slot" if (kind, reason) == ("slot", "recovering") else as_told_now(reason))


def as_told_now(sentence: str) -> str:
    """The old sentence in the words of today: ages like all others, a quota named, foreign text quoted."""
    words = re.sub(r"^parked until", "quota until", sentence)
    if foreign := re.fullmatch(r"(checking|looping): (.*)", words, re.DOTALL):
        return f"{foreign[1]}: {named(foreign[2])}"
    return re.sub(r"^(stalled|retrying .* in|unknown: .* for) (\d+) s$", _age, words)


def _age(old: re.Match[str]) -> str:
    return f"{old[1]} {format_age(float(old[2]))}"


def _migration() -> ModuleType:
    spec = importlib.util.spec_from_file_location("migration_0002", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MIGRATION = _migration()
NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}", fullmatch=True)
AMOUNTS = st.from_regex(r"\$?[0-9][0-9.]{0,5}k?( turns| tokens| s)?", fullmatch=True)
SENTENCES = st.one_of(
    st.lists(NAMES, min_size=1, max_size=4).map(lambda names: ("queued", "inputs", "inputs: " + ", ".join(names))),
    NAMES.map(lambda name: ("queued", "inputs", f"its input {name} failed (verdict)")),
    NAMES.map(lambda name: ("queued", "checkout", f"{name} writes in this checkout")),
    NAMES.map(lambda name: ("queued", "checkout", f"{name} writes in this checkout and waits for an answer")),
    st.tuples(AMOUNTS, AMOUNTS).map(lambda pair: ("waiting", "budget", f"budget {pair[0]} of {pair[1]}")),
    st.tuples(NAMES, AMOUNTS, AMOUNTS).map(lambda it: ("waiting", "budget", f"budget of {it[0]} {it[1]} of {it[2]}")),
    st.times().map(lambda at: ("waiting", "quota", f"parked until {at:%H:%M}")),
    st.datetimes().map(lambda at: ("waiting", "quota", f"refused; next try {at:%Y-%m-%d %H:%M}")),
    st.tuples(st.integers(1, 99), st.integers(1, 99)).map(lambda n: ("waiting", "overload", f"retrying {n[0]}/{n[1]}")),
)


@given(old=SENTENCES)
def test_any_sentence_of_a_wait_is_read_so_that_its_words_are_the_same(old: tuple[str, str, str]) -> None:
    status, kind, sentence = old
    read = MIGRATION.wait_of(status, sentence)
    wait = Wait(**read)
    assert wait.kind == kind
    assert wait_words(wait) == as_told_now(sentence)


@given(
    kind=st.sampled_from([ActivityKind.CHECKING, ActivityKind.LOOPING]),
    detail=st.text(max_size=40),
    seconds=st.integers(0, 10**6),
    attempt=st.integers(1, 99),
)
def test_any_sentence_of_an_activity_is_read_so_that_its_words_are_the_same(
    kind: ActivityKind, detail: str, seconds: int, attempt: int
) -> None:
    for sentence in (
        f"{kind}: {detail}",
        f"stalled {seconds} s",
        f"retrying {attempt}/99",
        f"retrying {attempt}/99 in {seconds + 1} s",
    ):
        read = MIGRATION.activity_of(sentence)
        known = None if read.get("seconds") is None else float(read["seconds"])
        found = Activity(kind=ActivityKind(read["kind"]), detail=read.get("detail") or "", seconds=known)
        assert activity_words(found) == as_told_now(sentence)


@given(sentence=st.text(max_size=60), status=st.sampled_from(["queued", "waiting"]))
def test_no_sentence_is_without_a_wait(sentence: str, status: str) -> None:
    WaitKind(MIGRATION.wait_of(status, sentence)["kind"])
    MIGRATION.activity_of(sentence)
