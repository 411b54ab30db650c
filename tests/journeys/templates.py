"""The contents of a generated repository's files, before and after the migration."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.journeys.words import Names

DATA = {"k1": 7, "k2": 3, "k3": 11}
"""What a source holds in every generated test."""


STYLES = ("from", "relative", "package", "alias", "module", "module-alias", "dotted", "list", "list-alias")


@dataclass(frozen=True, kw_only=True)
class Voice:
    """How a template speaks of the function: before or after the migration, prose included or not."""

    names: Names
    is_migrated: bool
    is_prose_updated: bool

    @property
    def ref(self) -> str:
        return self.names.new if self.is_migrated else self.names.old

    @property
    def prose(self) -> str:
        return self.names.new if self.is_migrated and self.is_prose_updated else self.names.old

    def call(self, first: str, second: str, by: str | None = None) -> str:
        """A call with two arguments, through the name `by` where the file has another one."""
        return f"{by or self.ref}({self._arguments(first, second, changed=self.is_migrated)})"

    def keyword_call(self, first: str, second: str, by: str | None = None) -> str:
        return f"{by or self.ref}({self.names.first}={first}, {self.names.second}={second})"

    def prose_call(self) -> str:
        changed = self.is_migrated and self.is_prose_updated
        return f"{self.prose}({self._arguments(self.names.first, self.names.second, changed=changed)})"

    def parameters(self) -> str:
        """The parameters of the definition."""
        first, second = (f"{self.names.first}{self.names.first_type}", f"{self.names.second}{self.names.second_type}")
        if not self.is_migrated or self.names.shape == "renamed":
            return f"{first}, {second}"
        return f"{second}, {first}" if self.names.shape == "swapped" else f"{second}, *, {first}"

    def _arguments(self, first: str, second: str, *, changed: bool) -> str:
        if not changed or self.names.shape == "renamed":
            return f"{first}, {second}"
        return f"{second}, {first}" if self.names.shape == "swapped" else f"{second}, {self.names.first}={first}"


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A module that uses the function: where it lies, how it gets at it, what it does with it."""

    folder: tuple[str, ...]
    name: str
    style: str
    body: int
    decoy: bool

    @property
    def dotted(self) -> str:
        return ".".join((*self.folder, self.name))


def package_text(voice: Voice) -> str:
    names = voice.names
    return (
        f'"""What callers import."""\n\nfrom .{names.module} import {names.source}, {voice.ref}\n\n'
        f'__all__ = ["{names.source}", "{voice.ref}"]\n'
    )


def module_text(voice: Voice) -> str:
    names = voice.names
    return f'''"""Where it all comes from."""

from . import {names.counters}


class {names.source}:
    def __init__(self, data):
        self.data = dict(data)
        self.inner = self

    def read(self, key):
        return self.data[key]


def {voice.ref}({voice.parameters()}){names.returns}:
    """Return what is known."""
    {names.counters}.count("{names.old}")
    return {names.first}.read({names.second}) + {names.constant}


def {names.old}_{names.suffix}(text):
    return len(text)


def {names.prefix}{names.old}(text):
    return {names.old}_{names.suffix}(text) * 2
'''


COUNTERS = '''"""Events by name; these names are read by others and never change."""

EVENTS = ("NAME", "other")
counts = dict.fromkeys(EVENTS, 0)


def count(event):
    counts[event] += 1
'''

VENDOR = '''"""Copied from elsewhere."""


def NAME(region, key):
    return f"{region}/{key}"
'''

SUPPORT = """from HOME import SOURCE

DATA = {"k1": 7, "k2": 3, "k3": 11}


def make():
    return SOURCE(DATA)
"""


def feed_text(voice: Voice) -> str:
    names = voice.names
    return f'''"""Somebody else's figures."""

from {names.vendor} import {names.old}


class Feed:
    def __init__(self, region):
        self.region = region

    def {names.old}(self, key):
        return {names.old}(self.region, key)

    def both(self, key):
        return self.{names.old}(key), {names.old}(self.region, key.strip())
'''


def readme_text(voice: Voice) -> str:
    names = voice.names
    return (
        f"# {names.package[0]}\n\n    from {'.'.join(names.package)} import {voice.prose}\n\n"
        f"`{voice.prose_call()}` answers every question. `Feed.{names.old}` asks somebody else,\n"
        f"and `{names.old}_{names.suffix}` has nothing to do with it.\n"
    )


# What a consumer does: its lines (with the call as a function of two arguments) and what comes out of it.
Call = Callable[[str, str], str]
Body = Callable[[Call, Call, str], tuple[list[str], Callable[[int], object]]]


def _plain(call: Call, keyword: Call, first: str) -> tuple[list[str], Callable[[int], object]]:
    del keyword
    return [f"return {call(first, 'keys[0]')}"], lambda plus: DATA["k1"] + plus


def _loop(call: Call, keyword: Call, first: str) -> tuple[list[str], Callable[[int], object]]:
    lines = ["total = 0", "for each in keys:", f"    have = {call(first, 'each')}", "    total += have"]
    return [*lines, f"return total - {keyword(first, 'keys[1]')}"], lambda plus: 18 + 2 * plus


def _mapping(call: Call, keyword: Call, first: str) -> tuple[list[str], Callable[[int], object]]:
    del keyword
    comprehension = f"{{each: {call(f'{first}.inner', 'str(each).strip()')} for each in keys}}"
    return [f"found = {comprehension}", "return sum(found.values())"], lambda plus: 21 + 3 * plus


def _twice(call: Call, keyword: Call, first: str) -> tuple[list[str], Callable[[int], object]]:
    del keyword
    line = f"return {call(first, 'keys[0]')} - {call(first, 'keys[-1]')}"
    return [line], lambda plus: DATA["k1"] - DATA["k3"] + 0 * plus


def _text(call: Call, keyword: Call, first: str) -> tuple[list[str], Callable[[int], object]]:
    del keyword
    return [f'return f"{{{call(first, "keys[2]")}:>6}}"'], lambda plus: f"{DATA['k3'] + plus:>6}"


def _repeated(call: Call, keyword: Call, first: str) -> tuple[list[str], Callable[[int], object]]:
    """The same line twice in a row, deeper, and as the beginning of a longer one."""
    line = f"have = {call(first, 'keys[1]')}"
    lines = [line, line, "if have:", f"    {line}", f"{line} + 1"]
    return [*lines, f"return have + {keyword(first, 'keys[0]')}"], lambda plus: 3 + 1 + 7 + 2 * plus


def _nested(call: Call, keyword: Call, first: str) -> tuple[list[str], Callable[[int], object]]:
    del keyword
    pick = call(f"(lambda one: one)({first})", "keys[len(keys) - len(str(max(1, 2)))]")
    return [f"return [{pick}, {call(first, 'keys[0]')}][0]"], lambda plus: DATA["k3"] + plus


BODIES: tuple[Body, ...] = (_plain, _loop, _mapping, _twice, _text, _repeated, _nested)


def _access(voice: Voice, consumer: Consumer) -> tuple[str, str | None]:
    """The import of a consumer, and the name that it calls the function by (None: its own)."""
    names = voice.names
    package, alias = ".".join(names.package), names.alias
    common = [left for left, right in zip(names.package, consumer.folder, strict=False) if left == right]
    dots = "." * (1 + len(consumer.folder) - len(common))
    near = dots + ".".join(names.package[len(common) :])
    from_near = near + ("" if near.endswith(".") else ".") + names.module
    ways = {
        "from": (f"from {names.dotted} import {names.source}, {voice.ref}", None),
        "relative": (f"from {from_near} import {voice.ref}", None),
        "package": (f"from {package} import {voice.ref}", None),
        "alias": (f"from {from_near} import {voice.ref} as {alias}", alias),
        "module": (f"from {package} import {names.module}", f"{names.module}.{voice.ref}"),
        "module-alias": (f"import {names.dotted} as {alias}", f"{alias}.{voice.ref}"),
        "dotted": (f"import {names.dotted}", f"{names.dotted}.{voice.ref}"),
        "list": (f"from {names.dotted} import (\n    {names.source},\n    {voice.ref},\n)", None),
        "list-alias": (f"from {from_near} import (\n    {voice.ref} as {alias},\n    {names.source},\n)", alias),
    }
    return ways[consumer.style]


def _calls(voice: Voice, consumer: Consumer) -> tuple[Call, Call]:
    by = _access(voice, consumer)[1]
    return (lambda first, second: voice.call(first, second, by)), (
        lambda first, second: voice.keyword_call(first, second, by)
    )


def consumer_text(voice: Voice, consumer: Consumer, chance: random.Random) -> str:
    names = voice.names
    line = _access(voice, consumer)[0]
    call, keyword = _calls(voice, consumer)
    lines, _ = BODIES[consumer.body](call, keyword, "source")
    note = f"    # {voice.prose} may be slow\n" if chance.random() < 0.5 and consumer.style in {"from", "list"} else ""
    text = f'"""Uses it ({consumer.style})."""\n\nimport sys\n{line}\n\n\ndef work(source, keys):\n{note}'
    text += "".join(f"    {each}\n" for each in lines)
    if consumer.decoy:
        # a local variable of the same name, in a file that reaches the function through its module
        text += f"\n\ndef more(source, key):\n    {names.old} = {call('source', 'key')}\n"
        text += f"    return {names.old} + sys.maxsize\n"
    return text


def consumer_test_text(voice: Voice, consumer: Consumer) -> str:
    names = voice.names
    _, expected = BODIES[consumer.body](lambda first, _: first, lambda first, _: first, "source")
    text = f"""import sys
import unittest
from unittest import mock

from {".".join(consumer.folder)} import {consumer.name}
from {names.tests.replace("/", ".")}.{names.support} import DATA, make


class {consumer.name.title()}(unittest.TestCase):
    def test_work(self):
        self.assertEqual({consumer.name}.work(make(), list(DATA)), {expected(names.constant)!r})
"""
    if consumer.style in {"from", "relative", "package", "list"}:
        target = f"{consumer.dotted}.{voice.ref}"
        text += f"""
    def test_it_asks(self):
        with mock.patch("{target}", return_value=1) as asked:
            {consumer.name}.work(make(), list(DATA))
        self.assertTrue(asked.called)
"""
    if consumer.decoy:
        value = DATA["k1"] + names.constant
        text += f"""
    def test_more(self):
        self.assertEqual({consumer.name}.more(make(), "k1") - sys.maxsize, {value})
"""
    return text


def module_test_text(voice: Voice) -> str:
    names = voice.names
    package = ".".join(names.package)
    return f"""import configparser
import importlib
import pathlib
import unittest
from unittest import mock

import {package}
from {package} import {names.counters}, {voice.ref}
from {package}.{names.feed} import Feed
from {names.dotted} import {names.old}_{names.suffix}, {names.prefix}{names.old}
from {names.tests.replace("/", ".")}.{names.support} import make


class Known(unittest.TestCase):
    def test_what_is_known(self):
        self.assertEqual({voice.call("make()", '"k1"')}, {DATA["k1"] + names.constant})
        self.assertEqual({voice.keyword_call("make()", '"k2"')}, {DATA["k2"] + names.constant})

    def test_it_is_counted(self):
        before = {names.counters}.counts["{names.old}"]
        {voice.call("make()", '"k3"')}
        self.assertEqual({names.counters}.counts["{names.old}"], before + 1)

    def test_all_is_there(self):
        self.assertTrue(all(hasattr({package}, name) for name in {package}.__all__))

    def test_other_things(self):
        self.assertEqual(({names.old}_{names.suffix}("abc"), {names.prefix}{names.old}("abc")), (3, 6))

    def test_the_feed(self):
        self.assertEqual(Feed("eu").{names.old}("k"), "eu/k")
        self.assertEqual(Feed("eu").both("k "), ("eu/k ", "eu/k"))

    def test_the_feed_asks_elsewhere(self):
        with mock.patch("{package}.{names.feed}.{names.old}", return_value=5), \\
                mock.patch("{package}.{names.feed}.Feed.{names.old}", return_value=6):
            self.assertEqual(Feed("eu").both("k"), (6, 5))
{_jobs_test(voice)}"""


def _jobs_test(voice: Voice) -> str:
    names = voice.names
    return f"""
    def test_jobs(self):
        config = configparser.ConfigParser()
        config.read(pathlib.Path(__file__).parents[{names.tests.count("/") + 1}] / "jobs.ini")
        module, _, name = config["jobs"]["nightly"].partition(":")
        job = getattr(importlib.import_module(module), name)
        self.assertEqual(job({names.first}=make(), {names.second}="k1"), {DATA["k1"] + names.constant})
"""
