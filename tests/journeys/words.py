"""Names for generated repositories."""

from __future__ import annotations

import random
from dataclasses import dataclass

_NOUNS = (
    "harbor", "ledger", "quarry", "meadow", "lantern", "orchard", "beacon", "cellar", "granary", "foundry", "atelier",
    "kiosk", "depot", "arbor", "galley", "bakery", "smithy", "parlor", "pantry", "wharf", "testbed", "zephyr", "jetty",
    "umbra", "voyage", "willow", "xenon", "yonder", "nectar", "island",
)  # fmt: skip
_VERBS = ("fetch", "load", "read", "query", "obtain", "resolve", "lookup", "gather", "pull", "measure")
_THINGS = ("level", "price", "record", "quota", "signal", "weight", "score", "tariff", "margin", "volume")
_FIRST = ("client", "conn", "api", "session", "gateway", "store")
_SECOND = ("sku", "key", "ident", "slug", "code", "handle")
_SHAPES = ("keyword", "keyword", "renamed", "swapped")


@dataclass(frozen=True, kw_only=True)
class Names:
    """What a repository calls its things. `top` is "" or a directory with a slash; `package` the way to the module."""

    top: str
    tests: str
    package: tuple[str, ...]
    module: str
    sub: str
    vendor: str
    feed: str
    counters: str
    support: str
    consumers: tuple[str, ...]
    old: str
    new: str
    alias: str
    prefix: str
    suffix: str
    first: str
    second: str
    first_type: str
    second_type: str
    returns: str
    source: str
    shape: str
    constant: int

    @property
    def dotted(self) -> str:
        """The module that defines the function, with dots."""
        return ".".join((*self.package, self.module))


def choose_names(chance: random.Random) -> Names:
    """Names that do not collide with each other."""
    nouns = chance.sample(_NOUNS, 18)
    verbs = chance.sample(_VERBS, 3)
    thing, other = chance.sample(_THINGS, 2)
    old = chance.choice([f"{verbs[0]}_{thing}", f"{verbs[0]}{thing}", verbs[0]])
    new = chance.choice([f"{verbs[1]}_{thing}", f"{old}_{other}", f"{thing}_of"])
    top = chance.choice(["", "src/", "lib/python/"])
    typed = chance.random() < 0.5
    return Names(
        top=top,
        tests=chance.choice(["tests", "checks", "test_suite"]),
        package=tuple(nouns[: chance.choice([1, 1, 2])]),
        module=nouns[2],
        sub=nouns[3],
        vendor=nouns[4],
        feed=nouns[5],
        counters=nouns[6],
        support=nouns[7],
        consumers=tuple(nouns[8:]),
        old=old,
        new=new,
        alias=chance.choice([f"{verbs[2]}_{other}", verbs[2][:2], f"_{thing}"]),
        prefix=chance.choice(["pre", "re_", "_"]),
        suffix=chance.choice(["legacy", "v1", "all", "2"]),
        first=chance.choice(_FIRST),
        second=chance.choice(_SECOND),
        first_type=chance.choice([': "dict[str, int]"', ": object"]) if typed else "",
        second_type=": str" if typed else "",
        returns=" -> int" if typed else "",
        source=chance.choice(["Source", "Backend", "Client", "Shelf"]),
        shape=chance.choice(_SHAPES),
        constant=chance.randint(1, 99),
    )
