"""When a refused account is tried again: what the real `claude` reports about its limit, and what Fleet does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator import rehearsal
from orchestrator.store.waits.pauses import FIRST_BACK_OFF_SECONDS, STAGGER_SECONDS
from tests.faults.places import Place, placed
from tests.fixtures.daemon import wait_until

SCRIPT = Path(__file__).parent / "quotas.yaml"
ROUNDED_SECONDS = 1.5
"""the time of a reset, and the time that an event names, are whole seconds"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, rehearsal.Rehearsal]]:
    settings = {"FLEET_MAX_RETRIES": "0", "AGENT_MAX_CONCURRENT": "1"}
    with placed(tmp_path_factory.mktemp("quotas"), SCRIPT, **settings) as found:
        yield found


@pytest.fixture
def keyed(there: tuple[Place, rehearsal.Rehearsal]) -> Place:
    """A fleet with one slot, for whoever has a key."""
    return there[0]


@pytest.fixture
def model(there: tuple[Place, rehearsal.Rehearsal]) -> rehearsal.Rehearsal:
    return there[1]


def subscriber(place: Place, name: str) -> Place:
    """The same fleet for somebody with a subscription of their own."""
    account = {key: value for key, value in place.account.items() if key != "ANTHROPIC_API_KEY"}
    return replace(place, account={**account, "CLAUDE_CODE_OAUTH_TOKEN": f"sk-ant-oat01-{name}"})


def events(place: Place, name: str, kind: str) -> list[dict[str, Any]]:
    """The agent's events of this kind."""
    found = place.ask("GET", f"/v1/events?since=0&agent={name}")["events"]
    return [event for event in found if event["kind"] == kind]


def pauses(place: Place, name: str) -> list[dict[str, Any]]:
    return events(place, name, "turn.waiting")


def at(event: dict[str, Any]) -> float:
    """When the event was."""
    return datetime.fromisoformat(event["at"]).timestamp()


def until(event: dict[str, Any]) -> float:
    """When the pause of this event ends."""
    return datetime.fromisoformat(event["body"]["until"]).timestamp()


@pytest.mark.requirement("quota:breaker:staggered-resume", "quota:breaker:one-error-suspends-account")
def test_a_subscriptions_agents_sleep_until_the_reset_they_were_told_and_go_on_one_after_the_other(
    keyed: Place, model: rehearsal.Rehearsal
) -> None:
    place = subscriber(keyed, "told")
    place.create("told", persona="scout")
    place.create("behind", persona="scout")
    turn = place.outcome("told")
    assert (turn["turn"], turn["status"], turn["result"]) == (1, "complete", "served again")
    assert place.outcome("behind")["result"] == "done behind"

    (told,), (behind,) = pauses(place, "told"), pauses(place, "behind")
    log: list[dict[str, Any]] = model.log()
    (refused,) = [record for record in log if record["agent"] == "told" and record["status"] == 429]
    assert until(told) == pytest.approx(refused["time"] + 10, abs=ROUNDED_SECONDS)
    assert until(behind) - until(told) == STAGGER_SECONDS
    first, second = (events(place, name, "turn.resumed")[0] for name in ("told", "behind"))
    assert until(told) <= at(first)
    assert until(behind) <= at(second)
    calls = [record["n"] for record in log if record["agent"] == "behind"]
    assert min(calls) > refused["n"], "the one behind was suspended without a call of its own"


@pytest.mark.requirement("quota:breaker:staggered-resume")
def test_an_account_that_is_refused_again_waits_longer(keyed: Place) -> None:
    place = subscriber(keyed, "twice")
    place.create("twice", persona="scout")
    wait_until(lambda: len(pauses(place, "twice")) == 2, "the second refusal", seconds=3 * FIRST_BACK_OFF_SECONDS)
    first, again = pauses(place, "twice")
    assert until(first) - at(first) == pytest.approx(FIRST_BACK_OFF_SECONDS, abs=ROUNDED_SECONDS)
    assert until(again) - at(again) == pytest.approx(2 * FIRST_BACK_OFF_SECONDS, abs=ROUNDED_SECONDS)


@pytest.mark.requirement("quota:breaker:staggered-resume", "error:model-api:429")
def test_of_a_keys_limit_the_program_tells_no_time_so_the_pause_begins_at_a_minute(keyed: Place) -> None:
    keyed.create("keyed", persona="scout")
    wait_until(lambda: pauses(keyed, "keyed"), "the pause")
    (pause,) = pauses(keyed, "keyed")
    assert until(pause) - at(pause) == pytest.approx(FIRST_BACK_OFF_SECONDS, abs=ROUNDED_SECONDS)
