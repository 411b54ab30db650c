"""Commands: what each one does to an agent in each state, and that the same idempotency key does it once."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.domain.agent import Account
from orchestrator.domain.budget import Scope, Unit
from orchestrator.domain.check import UNCHANGED, Check, CheckKind, NewChecks
from orchestrator.domain.question import AnsweredBy, QuestionKind
from orchestrator.domain.turn import DeliveryMode, TurnStatus
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.errors import ConflictError, NotFoundError, RefusedError
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits.questions import OtherQuestionError
from tests.store.world import HOUR, NOON, World, names, nobody_pays

pytestmark = pytest.mark.anyio
MAKE = NewChecks(checks=(Check(kind=CheckKind.RUN, what="make", timeout_seconds=600.0),), retries=1)
QUEUE, STEER, INTERRUPT = DeliveryMode.QUEUE, DeliveryMode.STEER, DeliveryMode.INTERRUPT


async def reach(world: World, state: str) -> str:
    """An agent in this state, in its first turn or behind it."""
    if state == "queued":
        return await world.create("a")
    if state == "waits for its account":
        await world.create("a", account="account-1")
        await world.admit(payable=nobody_pays)
        return "ag_a"
    claim = await world.start("a")
    if state in list(TurnStatus):
        if state != "working":
            await world.finish(claim, TurnStatus(state))
    elif state == "lost":
        await world.lose(claim)
    elif state == "deleted":
        await world.delete("ag_a")
    else:
        await suspend(world, claim, state)
    return "ag_a"


async def suspend(world: World, claim: Claim, state: str) -> None:
    """Let the agent come to wait in this way."""
    match state:
        case "waits for its children":
            await world.create("child", parent=claim)
            await world.wait_for_children(claim)
        case "waits for its agents":
            await world.create("worker")
            await world.wait_for_agents(claim, agents=["ag_worker"])
        case "refused":
            await world.refuse(claim, NOON + HOUR)
        case "overloaded":
            await world.pause(claim, Wait(kind=WaitKind.OVERLOAD, until=NOON + HOUR, detail="1/5"))
        case "waits for budget":
            await world.pause(claim, Wait(kind=WaitKind.BUDGET, detail="5 of 5"))
        case _:
            await world.ask(claim)
            if state == "answered":
                await world.answer("ag_a")


NEXT = "queued behind its open turn"
DROPPED = "turn 2: its open turn was dropped; the new task is next"
NOT_STEERED = "turn 2: queued (not steered: no turn is running)"
ADDED = "added to the task of its queued turn"

TABLE: dict[str, dict[DeliveryMode, tuple[str, str, str]]] = {
    "queued": dict.fromkeys(DeliveryMode, (ADDED, "queued", "queued")),
    "working": {
        QUEUE: ("turn 2: queued behind the running turn", "working", "working queued"),
        STEER: ("handed into the running turn at its next tool call", "working", "working queued"),
        INTERRUPT: ("turn 2: the running turn is interrupted; this one is next", "working", "working queued"),
    },
    "asks": {
        QUEUE: ("answered: the agent continues", "queued", "waiting"),
        STEER: ("answered: the agent continues", "queued", "waiting"),
        INTERRUPT: (DROPPED, "queued", "interrupted queued"),
    },
    "answered": {
        QUEUE: ("turn 2: queued", "queued", "waiting queued"),
        STEER: (NOT_STEERED, "queued", "waiting queued"),
        INTERRUPT: (DROPPED, "queued", "interrupted queued"),
    },
    "lost": {
        QUEUE: ("turn 2: queued", "queued", "recovering queued"),
        STEER: (NOT_STEERED, "queued", "recovering queued"),
        INTERRUPT: (DROPPED, "queued", "interrupted queued"),
    },
    "waits for its account": {
        QUEUE: ("turn 2: its account is available again; queued behind its open turn", "queued", "queued queued"),
        STEER: ("turn 2: its account is available again; queued behind its open turn", "queued", "queued queued"),
    },
    "waits for its children": {
        QUEUE: (f"turn 2: {NEXT} (children)", "waiting", "waiting queued"),
        STEER: (f"turn 2: {NEXT} (children)", "waiting", "waiting queued"),
        INTERRUPT: (DROPPED, "queued", "interrupted queued"),
    },
    "waits for its agents": {
        QUEUE: ("woken: its wait_for_agents returns with this text", "queued", "waiting"),
        STEER: ("woken: its wait_for_agents returns with this text", "queued", "waiting"),
        INTERRUPT: (DROPPED, "queued", "interrupted queued"),
    },
    "refused": {
        QUEUE: (f"turn 2: {NEXT} (quota until", "waiting", "waiting queued"),
        STEER: (f"turn 2: {NEXT} (quota until", "waiting", "waiting queued"),
        INTERRUPT: (DROPPED, "queued", "interrupted queued"),
    },
    "overloaded": {
        QUEUE: (f"turn 2: {NEXT} (retrying 1/5)", "waiting", "waiting queued"),
        STEER: (f"turn 2: {NEXT} (retrying 1/5)", "waiting", "waiting queued"),
        INTERRUPT: (DROPPED, "queued", "interrupted queued"),
    },
    "waits for budget": {INTERRUPT: (DROPPED, "queued", "interrupted queued")},
    "complete": {
        QUEUE: ("turn 2: queued", "queued", "complete queued"),
        STEER: (NOT_STEERED, "queued", "complete queued"),
        INTERRUPT: ("turn 2: queued", "queued", "complete queued"),
    },
    "failed": dict.fromkeys([QUEUE, INTERRUPT], ("turn 2: queued", "queued", "failed queued")),
    "interrupted": dict.fromkeys([QUEUE, INTERRUPT], ("turn 2: queued", "queued", "interrupted queued")),
}
"""by state and mode: what the receipt says, the agent's status, and the statuses of its turns"""
CASES = [pytest.param(state, mode, id=f"{state}-{mode}") for state, modes in TABLE.items() for mode in modes]


@pytest.mark.requirement("turn:steer:receipts")
@pytest.mark.parametrize(("state", "mode"), CASES)
async def test_a_command_does_what_the_table_says(world: World, state: str, mode: DeliveryMode) -> None:
    happened, status, turns = TABLE[state][mode]
    agent_id = await reach(world, state)
    done = await world.command(agent_id, "and this", mode)
    assert done.happened.startswith(happened)
    assert await world.status(agent_id) == status
    found = await world.turns(agent_id)
    assert " ".join(str(turn.status) for turn in found) == turns
    assert done.steer == (state == "working" and mode is STEER)
    assert dict(done.running) == ({agent_id: "tn_a"} if (state, mode) == ("working", INTERRUPT) else {})
    if len(found) == 2:
        assert (done.turn_id, found[1].prompt) == (found[1].id, "and this")
        assert found[1].urgent == (2 if mode is INTERRUPT and done.happened != "turn 2: queued" else int(done.steer))
    else:
        assert done.turn_id == "tn_a"


@pytest.mark.parametrize("mode", list(DeliveryMode))
@pytest.mark.parametrize(
    ("state", "refusal"),
    [("deleted", "a is deleted"), ("waits for budget", "a waits: budget 5 of 5; nothing was queued")],
)
async def test_a_command_that_cannot_be_carried_out_writes_nothing(
    world: World, state: str, refusal: str, mode: DeliveryMode
) -> None:
    if state == "waits for budget" and mode is INTERRUPT:
        mode = STEER  # an interrupt is carried out: the table has it
    agent_id = await reach(world, state)
    before = await world.events()
    with pytest.raises(ConflictError, match=refusal):
        await world.command(agent_id, "and this", mode, call_key="key")
    assert await world.events() == before
    assert await world.count("command", "turn") == [0, 1]


async def test_nobody_can_be_commanded_who_does_not_exist(world: World) -> None:
    with pytest.raises(NotFoundError, match="ag_nobody"):
        await world.command("ag_nobody")


@pytest.mark.requirement("turn:command:idempotency-key")
@pytest.mark.parametrize("state", ["queued", "working", "asks", "waits for its agents", "complete"])
async def test_the_same_key_does_it_once_and_tells_the_same(world: World, state: str) -> None:
    agent_id = await reach(world, state)
    first = await world.command(agent_id, call_key="key")
    before = await world.events(), await world.turns(agent_id)
    again = await world.command(agent_id, call_key="key")
    assert (again.turn_id, again.happened, again.steer) == (first.turn_id, first.happened, False)
    assert (await world.events(), await world.turns(agent_id)) == before


async def test_two_keys_are_two_commands(world: World) -> None:
    agent_id = await reach(world, "working")
    for key in ("one", "two", None, None):
        await world.command(agent_id, call_key=key)
    assert len(await world.turns(agent_id)) == 5
    assert await world.count("command") == [2]


async def test_a_key_of_another_agent_is_refused(world: World) -> None:
    for name in ("a", "b"):
        await world.create(name)
    await world.command("ag_a", call_key="key")
    with pytest.raises(ConflictError, match="used for another agent"):
        await world.command("ag_b", call_key="key")
    assert (await world.turns("ag_b"))[0].prompt == "the task of b"


async def test_a_key_whose_command_was_refused_can_be_used_again(world: World) -> None:
    agent_id = await reach(world, "complete")
    with pytest.raises(ConflictError):
        await world.command(agent_id, call_key="key", only_answer=True)
    assert (await world.command(agent_id, call_key="key")).happened == "turn 2: queued"


async def test_text_for_a_queued_turn_is_added_to_its_prompt_in_order(world: World) -> None:
    agent_id = await reach(world, "queued")
    for text in ("first", "second"):
        await world.command(agent_id, text)
    assert (await world.turns(agent_id))[0].prompt == "the task of a\n\nfirst\n\nsecond"


async def test_the_first_of_several_queued_turns_takes_the_text(world: World) -> None:
    claim = await world.start("a")
    await world.command("ag_a", "second")
    await world.command("ag_a", "third")
    await world.finish(claim)
    await world.command("ag_a", "more")
    assert [turn.prompt for turn in await world.turns("ag_a")] == ["the task of a", "second\n\nmore", "third"]


# answers


async def test_only_an_answer_is_refused_by_an_agent_that_asks_nothing(world: World) -> None:
    for number, state in enumerate(("working", "queued")):
        agent_id = await world.create(f"b{number}")
        if state == "working":
            await world.admit()
        with pytest.raises(ConflictError, match=f"is not waiting for an answer: it is {state}"):
            await world.command(agent_id, only_answer=True)


async def test_a_command_answers_a_question_in_the_words_and_the_name_of_who_sent_it(world: World) -> None:
    agent_id = await reach(world, "asks")
    await world.command(agent_id, "the left one", by=AnsweredBy.PERSON)
    (row,) = await world.questions(agent_id)
    assert (row.answer, row.answered_by) == ("the left one", "person")


async def test_a_command_gives_no_permission_that_its_sender_has_not_seen(world: World) -> None:
    question_id = await world.ask(await world.start("a"), QuestionKind.PERMISSION)
    with pytest.raises(OtherQuestionError):
        await world.command("ag_a", "allow")
    await world.command("ag_a", "allow", question_id=question_id)
    assert (await world.questions("ag_a"))[0].answer == "allow"


# inputs and checks


async def test_a_turn_with_inputs_or_checks_of_its_own_is_not_steered(world: World) -> None:
    agent_id = await reach(world, "working")
    reason = "(not steered: inputs and checks belong to a turn of their own)"
    own: list[dict[str, Any]] = [{"inputs": []}, {"verify": MAKE}]
    for more in own:
        done = await world.command(agent_id, "x", STEER, **more)
        assert done.happened.endswith(reason)
        assert not done.steer


async def test_inputs_of_a_command_are_those_of_its_turn(world: World) -> None:
    await world.start("source")
    agent_id = await reach(world, "complete")
    await world.command(agent_id, inputs=["ag_source"])
    assert await world.inputs(agent_id) == {"ag_source": "open"}
    assert await world.admit() == {}


async def test_checks_count_from_this_turn_on_and_are_left_alone_where_none_are_given(world: World) -> None:
    agent_id = await reach(world, "working")
    checks = [{"run": "make", "timeout_seconds": 600.0}]
    await world.command(agent_id, "plain")
    await world.command(agent_id, "checked", verify=MAKE)
    await world.command(agent_id, "again", verify=UNCHANGED)
    assert [turn.checks for turn in await world.turns(agent_id)] == [None, None, checks, checks]
    agent = await world.agent(agent_id)
    assert (agent.checks, agent.check_retries) == (checks, 1)


# accounts


async def test_a_command_brings_the_callers_account_to_an_agent_that_waits_for_one(world: World) -> None:
    agent_id = await reach(world, "waits for its account")
    await world.command(agent_id, account=Account(id="account-9", public={"BASE": "x"}, environment={"PATH": "/bin"}))
    agent = await world.agent(agent_id)
    assert (agent.account, agent.account_public, agent.environment) == ("account-9", {"BASE": "x"}, {"PATH": "/bin"})
    claims = await world.admit(payable=lambda account: account == "account-9")
    assert [claim.turn for claim in claims.values()] == [1]


async def test_a_command_leaves_the_account_of_every_other_agent_alone(world: World) -> None:
    agent_id = await reach(world, "complete")
    await world.command(agent_id, account=Account(id="account-9", public={}, environment={}))
    assert (await world.agent(agent_id)).account == "account-1"


# budget


async def test_more_budget_alone_lets_the_turn_go_on_where_it_paused(world: World) -> None:
    claim = await world.start("a", caps={Unit.TOKENS: 100})
    await world.pause(claim, Wait(kind=WaitKind.BUDGET, detail="100 tokens of 100 tokens"), tokens=100)
    done = await world.command("ag_a", "", caps={Unit.TOKENS: 200.0})
    assert (done.turn_id, done.happened) == (None, "its budget is now 200 tokens; its turn continues where it stopped")
    assert names(await world.admit()) == ["a"]
    assert len(await world.turns("ag_a")) == 1


async def test_more_budget_and_a_text_queue_the_text_behind_the_turn_that_goes_on(world: World) -> None:
    claim = await world.start("a", caps={Unit.TOKENS: 100})
    await world.pause(claim, Wait(kind=WaitKind.BUDGET, detail="100 tokens of 100 tokens"), tokens=100)
    done = await world.command("ag_a", "then this", caps={Unit.TOKENS: 200.0})
    assert done.happened == "turn 2: queued"
    assert (await world.admit())["ag_a"].turn == 1


async def test_too_little_more_budget_says_what_is_still_missing(world: World) -> None:
    claim = await world.start("a", caps={Unit.TOKENS: 100, Unit.USD: 1.0})
    await world.pause(claim, Wait(kind=WaitKind.BUDGET, detail="100 tokens of 100 tokens"), tokens=300)
    done = await world.command("ag_a", "", caps={Unit.TOKENS: 200.0})
    assert done.happened == "its budget is now 200 tokens; it still waits: budget 300 tokens of 200 tokens"
    assert await world.status("ag_a") == "waiting"


async def test_a_childs_budget_beyond_its_parents_is_refused_and_nothing_is_queued(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 100})
    child = await world.create("child", parent=lead, caps={Unit.TOKENS: 50})
    with pytest.raises(RefusedError):
        await world.command(child, "more", caps={Unit.TOKENS: 500.0})
    assert (await world.turns(child))[0].prompt == "the task of child"


async def test_the_budget_of_an_orchestrator_bounds_all_that_it_directs(world: World) -> None:
    await world.create("boss", scope=Scope.SUBTREE)
    await world.command("ag_boss", "", caps={Unit.TOKENS: 500.0})
    room = (await world.headroom("ag_boss"))["ag_boss", Unit.TOKENS]
    assert (room.scope, room.cap) == (Scope.SUBTREE, 500.0)


def test_the_table_has_every_state_an_agent_can_be_commanded_in() -> None:
    kinds = {"children", "agents", "account", "budget"}
    assert all(any(kind in state for state in TABLE) for kind in kinds)
    missing: dict[str, Any] = {
        state: set(DeliveryMode) - set(modes) for state, modes in TABLE.items() if set(DeliveryMode) - set(modes)
    }
    assert missing == {
        "waits for its account": {INTERRUPT},
        "waits for budget": {QUEUE, STEER},
        "failed": {STEER},
        "interrupted": {STEER},
    }
