"""Questions: one at a time, answered once, by an authorized party, before the deadline, and dropped with their turn."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import IntegrityError

from orchestrator.domain.question import AnsweredBy, QuestionKind
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.store.queries import left
from orchestrator.store.turns import turns
from orchestrator.store.waits import questions
from orchestrator.store.waits.questions import OtherQuestionError
from tests.store.world import HOUR, NOON, World, asked, names

pytestmark = pytest.mark.anyio
PERMISSION = QuestionKind.PERMISSION


async def expire(world: World) -> int:
    """Give the default answers that are due; how many."""
    return await world.write(turns.expire, world.now)


async def test_an_agent_that_asks_waits_without_a_slot_and_its_question_is_in_its_row(world: World) -> None:
    claim = await world.start("a")
    question_id = await world.ask(claim, deadline_at=NOON + HOUR, options=["x", "y"])
    agent, turn = await world.agent("ag_a"), await world.turn(claim.turn_id)
    assert (agent.status, agent.owner, turn.status) == ("waiting", None, "waiting")
    assert await world.wait("ag_a") == Wait(kind=WaitKind.QUESTION, until=NOON + HOUR)
    assert agent.pending["id"] == question_id
    assert (agent.pending["text"], agent.pending["options"]) == ("which one?", ["x", "y"])
    event = (await world.events("ag_a"))[-1]
    assert (event.kind, event.body["question"], event.body["question_id"]) == (
        *("turn.waiting", "which one?"),
        question_id,
    )


async def test_an_answer_queues_the_very_turn_that_asked(world: World) -> None:
    claim = await world.start("a")
    question_id = await world.ask(claim)
    world.now += 5
    await world.answer("ag_a", "the left one", AnsweredBy.ORCHESTRATOR)
    (row,) = await world.questions("ag_a")
    assert (row.id, row.state, row.answer, row.answered_at, row.answered_by) == (
        *(question_id, "answered", "the left one", NOON + 5),
        "orchestrator",
    )
    agent = await world.agent("ag_a")
    assert (agent.status, agent.pending) == ("queued", None)
    again = (await world.admit())["ag_a"]
    assert (again.turn_id, again.continues) == (claim.turn_id, True)


async def test_a_question_is_answered_once(world: World) -> None:
    await world.ask(await world.start("a"))
    await world.answer("ag_a", "first")
    with pytest.raises(ConflictError, match="a is not waiting for an answer: it is queued"):
        await world.answer("ag_a", "second")
    assert [row.answer for row in await world.questions("ag_a")] == ["first"]


@pytest.mark.parametrize("state", ["queued", "working", "paused", "complete"])
async def test_only_an_agent_that_asks_can_be_answered(world: World, state: str) -> None:
    if state == "queued":
        await world.create("a")
    else:
        claim = await world.start("a")
        if state == "paused":
            await world.pause(claim, Wait(kind=WaitKind.OVERLOAD, until=NOON + 1))
        if state == "complete":
            await world.finish(claim)
    before = await world.events()
    with pytest.raises(ConflictError, match="is not waiting for an answer"):
        await world.answer("ag_a")
    assert await world.events() == before


async def test_an_agent_that_waits_for_its_children_cannot_be_answered(world: World) -> None:
    lead = await world.start("lead")
    await world.create("child", parent=lead)
    await world.wait_for_children(lead)
    with pytest.raises(ConflictError, match="is not waiting for an answer"):
        await world.answer("ag_lead")


async def test_an_agent_has_one_open_question(world: World) -> None:
    await world.ask(await world.start("a"))
    with pytest.raises(IntegrityError):
        await world.write(questions.ask, "ag_a", 1, asked(QuestionKind.QUESTION, NOON))
    assert len(await world.open_questions("ag_a")) == 1


async def test_an_answered_question_leaves_room_for_the_next_one(world: World) -> None:
    claim = await world.start("a")
    for number in range(3):
        world.now += 1
        await world.ask(claim, call_id=f"call-{number}")
        await world.answer("ag_a", f"answer {number}")
        claim = (await world.admit())["ag_a"]
    assert [row.answer for row in await world.questions("ag_a")] == ["answer 0", "answer 1", "answer 2"]


# who may answer what


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("allow", "allow"),
        (" ALWAYS ", "always"),
        ("deny: too dangerous", "deny: too dangerous"),
        ("Deny:  no", "deny: no"),
    ],
)
async def test_a_permission_is_allowed_always_allowed_or_denied_with_a_reason(
    world: World, given: str, kept: str
) -> None:
    await world.ask(await world.start("a"), PERMISSION)
    await world.answer("ag_a", given)
    assert [row.answer for row in await world.questions("ag_a")] == [kept]


@pytest.mark.parametrize("given", ["yes", "", "deny:", "deny", "allowed"])
async def test_any_other_word_answers_no_permission_and_changes_nothing(world: World, given: str) -> None:
    await world.ask(await world.start("a"), PERMISSION)
    with pytest.raises(InvalidError, match="does not answer a permission"):
        await world.answer("ag_a", given)
    assert len(await world.open_questions("ag_a")) == 1
    assert await world.status("ag_a") == "waiting"


async def test_no_orchestrator_permits_what_it_has_not_seen(world: World) -> None:
    question_id = await world.ask(await world.start("a"), PERMISSION, input={"command": "rm -rf build"})
    with pytest.raises(OtherQuestionError, match="a now wants to use Bash") as refused:
        await world.answer("ag_a", "allow", AnsweredBy.ORCHESTRATOR)
    assert refused.value.question_id == question_id
    assert "rm -rf build" in str(refused.value)
    await world.answer("ag_a", "allow", AnsweredBy.ORCHESTRATOR, question_id)


async def test_an_answer_to_another_question_is_refused_and_says_what_is_asked_now(world: World) -> None:
    await world.ask(await world.start("a"), text="red or blue?")
    with pytest.raises(OtherQuestionError, match=r"a now asks: .*red or blue"):
        await world.answer("ag_a", "ten", question_id="qu_of_yesterday")
    assert await world.status("ag_a") == "waiting"


async def test_the_beginning_of_an_id_is_enough(world: World) -> None:
    question_id = await world.ask(await world.start("a"), PERMISSION)
    await world.answer("ag_a", "allow", AnsweredBy.ORCHESTRATOR, question_id[:9])
    assert (await world.questions("ag_a"))[0].answer == "allow"


# deadlines


async def test_a_question_is_answered_by_its_default_once_its_deadline_has_come(world: World) -> None:
    await world.ask(await world.start("a"), deadline_at=NOON + HOUR, fallback="take the left one")
    world.now = NOON + HOUR - 1
    assert await expire(world) == 0
    world.now += 1
    assert await expire(world) == 1
    (row,) = await world.questions("ag_a")
    assert (row.state, row.answer, row.answered_by) == ("answered", "take the left one", "deadline")
    assert await world.status("ag_a") == "queued"
    assert await expire(world) == 0


async def test_a_permission_is_denied_by_its_deadline_though_nobody_has_seen_it(world: World) -> None:
    await world.ask(await world.start("a"), PERMISSION, deadline_at=NOON, fallback="deny: nobody answered")
    await expire(world)
    assert (await world.questions("ag_a"))[0].answer == "deny: nobody answered"


async def test_only_overdue_questions_expire_and_the_next_deadline_is_the_earliest(world: World) -> None:
    for number, deadline in enumerate((NOON + 30, NOON + 10, None, NOON + 20)):
        await world.ask(await world.start(f"a{number}"), deadline_at=deadline)
    assert await world.store.read(questions.next_deadline) == NOON + 10
    world.now = NOON + 20
    assert await expire(world) == 2
    assert [len(await world.open_questions(f"ag_a{number}")) for number in range(4)] == [1, 0, 1, 0]
    assert await world.store.read(questions.next_deadline) == NOON + 30


async def test_without_a_deadline_a_question_waits_for_ever(world: World) -> None:
    await world.ask(await world.start("a"))
    world.now += 365 * 24 * HOUR
    assert await expire(world) == 0
    assert await world.store.read(questions.next_deadline) is None


async def test_an_answer_before_the_deadline_is_not_overwritten_by_it(world: World) -> None:
    await world.ask(await world.start("a"), deadline_at=NOON + 10)
    await world.answer("ag_a", "in time")
    world.now += HOUR
    assert await expire(world) == 0
    assert (await world.questions("ag_a"))[0].answer == "in time"


# the call goes on, or its turn ends


async def test_an_answer_is_settled_by_the_call_that_goes_on_with_it(world: World) -> None:
    question_id = await world.ask(await world.start("a"))
    await world.write(questions.settle, question_id)
    assert (await world.questions("ag_a"))[0].state == "open"
    await world.answer("ag_a")
    await world.write(questions.settle, question_id)
    assert (await world.questions("ag_a"))[0].state == "settled"


async def test_the_answer_of_a_call_is_found_by_its_call_the_latest_first(world: World) -> None:
    claim = await world.start("a")
    for text in ("old", "new"):
        world.now += 1
        await world.ask(claim, call_id="call-1")
        await world.answer("ag_a", text)
        claim = (await world.admit())["ag_a"]
    found = await world.store.read(lambda connection: questions.of_call(connection, "ag_a", "call-1"))
    assert found is not None
    assert found.answer == "new"
    assert await world.store.read(lambda connection: questions.of_call(connection, "ag_a", "call-2")) is None


@pytest.mark.parametrize("answered", [False, True])
async def test_a_question_is_dropped_with_its_turn_answered_or_not(world: World, answered: bool) -> None:
    claim = await world.start("a")
    await world.ask(claim)
    if answered:
        await world.answer("ag_a")
    await world.write(turns.drop_question, "ag_a", world.now)
    assert [row.state for row in await world.questions("ag_a")] == ["dropped"]
    agent, turn = await world.agent("ag_a"), await world.turn(claim.turn_id)
    assert (agent.status, agent.pending, turn.status) == ("interrupted", None, "interrupted")
    with pytest.raises(ConflictError):
        await world.answer("ag_a")


async def test_what_was_settled_is_not_dropped_later(world: World) -> None:
    question_id = await world.ask(await world.start("a"))
    await world.answer("ag_a")
    claim = (await world.admit())["ag_a"]
    await world.write(questions.settle, question_id)
    await world.finish(claim)
    assert [row.state for row in await world.questions("ag_a")] == ["settled"]


async def test_a_question_of_a_deleted_agent_is_dropped(world: World) -> None:
    await world.ask(await world.start("a"), deadline_at=NOON + 1)
    await world.delete("ag_a")
    assert [row.state for row in await world.questions("ag_a")] == ["dropped"]
    world.now += HOUR
    assert await expire(world) == 0


async def test_what_was_asked_as_the_turn_ended_is_in_nobodys_inbox(world: World) -> None:
    claim = await world.start("a")
    await world.write(questions.ask_in_vain, "ag_a", claim.turn, asked(QuestionKind.QUESTION, NOON))
    assert [row.state for row in await world.questions("ag_a")] == ["dropped"]
    assert (await world.agent("ag_a")).pending is None


# what is answered without anyone


async def test_a_policys_answer_is_settled_at_once_and_written_once_for_a_call(world: World) -> None:
    claim = await world.start("a")
    for _ in range(2):
        await world.write(
            questions.ask_policy, "ag_a", claim.turn, asked(PERMISSION, NOON), answer="deny: no", now=NOON
        )
    (row,) = await world.questions("ag_a")
    assert (row.state, row.answer, row.answered_by, row.answered_at) == ("settled", "deny: no", "policy", NOON)
    assert await world.status("ag_a") == "working"


async def test_permissions_for_good_are_those_that_were_answered_always(world: World) -> None:
    claim = await world.start("a")
    other = await world.start("b")
    for number, answer in enumerate(("allow", "always", "deny: no", "always")):
        world.now += 1
        await world.ask(claim, PERMISSION, call_id=f"call-{number}", input={"command": f"make {number}"})
        await world.answer("ag_a", answer)
        claim = (await world.admit())["ag_a"]
    await world.ask(other, text="always?")
    await world.answer("ag_b", "always")
    found = await world.store.read(lambda connection: questions.always(connection, "ag_a"))
    assert [row.input for row in found] == [{"command": "make 1"}, {"command": "make 3"}]
    assert not await world.store.read(lambda connection: questions.always(connection, "ag_b"))


async def test_what_agents_answer_by_their_end_is_in_nobodys_inbox(world: World) -> None:
    lead = await world.start("lead")
    await world.create("child", parent=lead)
    await world.wait_for_children(lead)
    await world.ask(await world.start("asks"))
    assert (await world.agent("ag_lead")).pending is None
    found = await world.store.read(lambda connection: questions.of_agent(connection, "ag_lead"))
    assert list(found) == []


async def test_open_questions_of_other_orchestrators_are_named_to_those_of_the_project(world: World) -> None:
    for name, values in (
        ("mine", {}),
        ("theirs", {"orchestrator": "host-2"}),
        ("elsewhere", {"orchestrator": "host-2", "project": "/other"}),
        ("gone", {"orchestrator": "host-2"}),
        ("answered", {"orchestrator": "host-2"}),
    ):
        await world.ask(await world.start(name, **values))
    await world.delete("ag_gone")
    await world.answer("ag_answered")
    found = await world.store.read(lambda connection: left.asking(connection, "/project", "host-1"))
    assert list(found) == [("theirs", "host-2", 0)]


async def test_several_agents_ask_and_each_gets_its_own_answer(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.ask(await world.start(name))
    for name in ("c", "a", "b"):
        await world.answer(f"ag_{name}", f"for {name}")
    found = [(await world.questions(f"ag_{name}"))[0].answer for name in ("a", "b", "c")]
    assert found == ["for a", "for b", "for c"]
    assert sorted(names(await world.admit())) == ["a", "b", "c"]


async def test_a_failed_end_of_the_turn_leaves_its_later_turns_in_the_queue(world: World) -> None:
    claim = await world.start("a")
    later = await world.queue("ag_a")
    await world.ask(claim)
    await world.write(turns.drop_question, "ag_a", world.now)
    assert await world.status("ag_a") == "queued"
    assert (await world.admit())["ag_a"].turn_id == later
    assert (await world.turn(claim.turn_id)).status == TurnStatus.INTERRUPTED
