"""What a command and an interrupt do to an agent in every state."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from orchestrator.domain.agent import Status
from orchestrator.domain.budget import Headroom, Scope, Unit
from orchestrator.domain.command import (
    AddToPrompt,
    AgentState,
    AnswerQuestion,
    BindAccount,
    CommandOptions,
    Decision,
    DropQueue,
    EndDurableWait,
    Interruption,
    InterruptTurn,
    NextTurn,
    QueueBehindWait,
    Queueing,
    QueueTurn,
    ReleaseQueue,
    ReplaceTurn,
    SteerTurn,
    caps_receipt_text,
    check_command,
    decide,
    decide_interrupt,
    receipt_text,
    urgency_of,
)
from orchestrator.domain.turn import DeliveryMode, TurnPriority
from orchestrator.domain.wait import ANSWERS, Wait, WaitKind
from orchestrator.errors import ConflictError

QUEUED = NextTurn(id="tn_1", ordinal=1, has_begun=False)
BEGUN = NextTurn(id="tn_1", ordinal=1, has_begun=True)
ROOM = Headroom(subject="ag_1", name="a", scope=Scope.AGENT, unit=Unit.USD, cap=0.5, used=0.5)
STATUSES = sorted(set(Status) - {Status.CREATING})
WAITS = [None, *(Wait(kind=kind, on="b", detail="1 of 2") for kind in WaitKind)]
STATES = [
    AgentState(
        id="ag_1",
        name="a",
        status=status,
        wait=wait,
        next_turn=turn,
        durable_wait=durable_wait,
        rooms=[ROOM] if wait and wait.kind is WaitKind.BUDGET else [],
    )
    for status, wait, turn, durable_wait in product(STATUSES, WAITS, [None, QUEUED, BEGUN], [None, "dw_1"])
]
TERMS = [
    CommandOptions(mode=mode, only_answer=only_answer, sets_inputs=sets_inputs, sets_checks=sets_checks)
    for mode, only_answer, sets_inputs, sets_checks in product(
        DeliveryMode, [False, True], [False, True], [False, True]
    )
]

REFUSED = "refused"
PLAIN = QueueTurn(is_behind_running=False, cannot_steer=False)
NOT_STEERED = QueueTurn(is_behind_running=False, cannot_steer=True)
BEHIND = QueueTurn(is_behind_running=True, cannot_steer=False)
TABLE: list[tuple[Status, WaitKind | None, NextTurn | None, object, object, object]] = [
    # status, wait, next turn: what the modes queue, steer and interrupt do
    (Status.QUEUED, WaitKind.SLOT, QUEUED, AddToPrompt(QUEUED), AddToPrompt(QUEUED), AddToPrompt(QUEUED)),
    (Status.QUEUED, WaitKind.INPUTS, QUEUED, AddToPrompt(QUEUED), AddToPrompt(QUEUED), AddToPrompt(QUEUED)),
    (Status.QUEUED, WaitKind.CHECKOUT, QUEUED, AddToPrompt(QUEUED), AddToPrompt(QUEUED), AddToPrompt(QUEUED)),
    (Status.QUEUED, WaitKind.SLOT, BEGUN, PLAIN, NOT_STEERED, ReplaceTurn(binds_account=False)),
    (Status.QUEUED, WaitKind.CHECKOUT, BEGUN, PLAIN, NOT_STEERED, ReplaceTurn(binds_account=False)),
    (Status.WORKING, None, None, BEHIND, SteerTurn(), InterruptTurn()),
    (Status.WORKING, None, QUEUED, BEHIND, SteerTurn(), InterruptTurn()),
    (Status.WAITING, WaitKind.SLOT, BEGUN, REFUSED, REFUSED, ReplaceTurn(binds_account=False)),
    (Status.WAITING, WaitKind.INPUTS, BEGUN, REFUSED, REFUSED, ReplaceTurn(binds_account=False)),
    (Status.WAITING, WaitKind.CHECKOUT, BEGUN, REFUSED, REFUSED, ReplaceTurn(binds_account=False)),
    (Status.WAITING, WaitKind.QUESTION, BEGUN, AnswerQuestion(), AnswerQuestion(), ReplaceTurn(binds_account=False)),
    (Status.WAITING, WaitKind.PERMISSION, BEGUN, AnswerQuestion(), AnswerQuestion(), ReplaceTurn(binds_account=False)),
    (Status.WAITING, WaitKind.ACCOUNT, QUEUED, BindAccount(), BindAccount(), ReplaceTurn(binds_account=True)),
    (Status.WAITING, WaitKind.ACCOUNT, BEGUN, BindAccount(), BindAccount(), ReplaceTurn(binds_account=True)),
    (Status.WAITING, WaitKind.HELD, QUEUED, ReleaseQueue(""), ReleaseQueue(""), DropQueue("")),
    (Status.WAITING, WaitKind.BUDGET, BEGUN, REFUSED, REFUSED, ReplaceTurn(binds_account=False)),
    *[
        (Status.WAITING, kind, BEGUN, behind, behind, ReplaceTurn(binds_account=False))
        for kind in (WaitKind.CHILDREN, WaitKind.AGENTS, WaitKind.QUOTA, WaitKind.OVERLOAD)
        for behind in [QueueBehindWait(Wait(kind=kind))]
    ],
    *[
        (status, None, turn, PLAIN, NOT_STEERED, PLAIN)
        for status in (Status.COMPLETE, Status.FAILED, Status.INTERRUPTED)
        for turn in (None, BEGUN)
    ],
    (Status.DELETED, None, None, REFUSED, REFUSED, REFUSED),
]


def state(
    status: Status, kind: WaitKind | None = None, turn: NextTurn | None = None, durable_wait: str | None = None
) -> AgentState:
    """An agent in this state."""
    wait = None if kind is None else Wait(kind=kind)
    return AgentState(id="ag_1", name="a", status=status, wait=wait, next_turn=turn, durable_wait=durable_wait)


def outcome(agent: AgentState, command: CommandOptions) -> object:
    """The decision, or that it was refused."""
    try:
        return decide(agent, command)
    except ConflictError as error:
        return REFUSED if error.hint else "refused without a hint"


@pytest.mark.requirement("agent:command:every-state-decides")
def test_every_state_gives_every_command_one_decision_or_a_refusal_with_a_hint() -> None:
    decided = [outcome(agent, command) for agent, command in product(STATES, TERMS)]
    assert {one if isinstance(one, str) else type(one) for one in decided} == {REFUSED, *get_args(Decision)}


@pytest.mark.parametrize(("status", "kind", "turn", "queue", "steer", "interrupt"), TABLE)
def test_a_mode_does_what_the_table_says(
    status: Status, kind: WaitKind | None, turn: NextTurn | None, queue: object, steer: object, interrupt: object
) -> None:
    given = [outcome(state(status, kind, turn), CommandOptions(mode=mode)) for mode in DeliveryMode]
    assert given == [queue, steer, interrupt]


def test_the_table_has_every_status_and_every_wait() -> None:
    assert {row[0] for row in TABLE} == set(STATUSES)
    assert {row[1] for row in TABLE} == {None, *WaitKind}


@pytest.mark.parametrize("mode", [DeliveryMode.QUEUE, DeliveryMode.STEER])
def test_a_text_ends_the_durable_wait_of_an_agent_that_directs_others(mode: DeliveryMode) -> None:
    waiting = state(Status.WAITING, WaitKind.AGENTS, BEGUN, "dw_1")
    assert outcome(waiting, CommandOptions(mode=mode)) == EndDurableWait("dw_1", "tn_1")
    assert outcome(waiting, CommandOptions(mode=DeliveryMode.INTERRUPT)) == ReplaceTurn(binds_account=False)


@pytest.mark.parametrize("given", ["sets_inputs", "sets_checks"])
def test_inputs_and_checks_make_a_steering_text_a_turn_of_its_own(given: str) -> None:
    terms = {"sets_inputs": False, "sets_checks": False} | {given: True}
    decision = outcome(state(Status.WORKING), CommandOptions(mode=DeliveryMode.STEER, **terms))
    assert decision == QueueTurn(is_behind_running=True, cannot_steer=True)


def test_what_is_meant_as_an_answer_does_nothing_but_answer() -> None:
    for agent, command in product(STATES, TERMS):
        if command.only_answer and agent.status is not Status.DELETED:
            asks = agent.status is Status.WAITING and agent.wait is not None and agent.wait.kind in ANSWERS
            assert (outcome(agent, command) != REFUSED) is asks


def test_caps_are_taken_in_every_state_but_deleted() -> None:
    for agent in STATES:
        if agent.status is not Status.DELETED:
            check_command(agent, CommandOptions())
    with pytest.raises(ConflictError) as error:
        check_command(state(Status.DELETED), CommandOptions())
    assert error.value.hint == "create a new agent"


def test_a_task_for_an_agent_at_its_cap_is_refused_with_the_call_that_raises_it() -> None:
    [agent] = [
        agent
        for agent in STATES
        if agent.status is Status.WAITING and agent.rooms and agent.next_turn == BEGUN and agent.durable_wait is None
    ]
    with pytest.raises(ConflictError) as error:
        decide(agent, CommandOptions())
    assert error.value.message == "a waits: budget of b 1 of 2; nothing was queued"
    assert error.value.hint == 'command_agent(agent="a", max_cost_usd=1), then wait again'


RECEIPTS: list[tuple[Decision, str]] = [
    (AddToPrompt(QUEUED), "added to the task of its queued turn"),
    (AnswerQuestion(), "answered: the agent continues"),
    (EndDurableWait("dw_1", "tn_1"), "woken: its wait_for_agents returns with this text"),
    (ReplaceTurn(binds_account=True), "turn 2: its open turn was dropped; the new task is next"),
    (InterruptTurn(), "turn 2: the running turn is interrupted; this one is next"),
    (SteerTurn(), "handed into the running turn at its next tool call; if that turn ends first, it is turn 2"),
    (BindAccount(), "turn 2: its account is available again; queued behind its open turn"),
    (QueueBehindWait(Wait(kind=WaitKind.CHILDREN)), "turn 2: queued behind its open turn (children)"),
    (ReleaseQueue("3 tasks"), "turn 2: it runs first, then what was held (3 tasks)"),
    (DropQueue("3 tasks"), "turn 2: it runs next; what was held is dropped (3 tasks)"),
    (PLAIN, "turn 2: queued"),
    (NOT_STEERED, "turn 2: queued (not steered: no turn is running)"),
    (BEHIND, "turn 2: queued behind the running turn"),
    (
        QueueTurn(is_behind_running=True, cannot_steer=True),
        "turn 2: queued behind the running turn (not steered: inputs and checks belong to a turn of their own)",
    ),
]


@pytest.mark.parametrize(("decision", "receipt"), RECEIPTS)
def test_a_receipt_tells_the_decision(decision: Decision, receipt: str) -> None:
    assert receipt_text(decision, 2) == receipt


def test_only_what_replaces_steers_or_retries_a_turn_overtakes_queued_ones() -> None:
    urgent: dict[type, TurnPriority] = {
        ReplaceTurn: TurnPriority.REPLACES,
        InterruptTurn: TurnPriority.REPLACES,
        SteerTurn: TurnPriority.STEERED,
        ReleaseQueue: TurnPriority.RETRIES,
    }
    queueing = [decision for decision, _ in RECEIPTS if isinstance(decision, Queueing)]
    assert {type(decision) for decision in queueing} == set(get_args(Queueing))
    assert all(urgency_of(decision) is urgent.get(type(decision), TurnPriority.NONE) for decision in queueing)


def test_new_caps_tell_whether_the_agent_goes_on() -> None:
    caps = {Unit.USD: 1.0, Unit.TURNS: 3.0}
    short = AgentState(
        id="ag_1", name="a", status=Status.WAITING, wait=Wait(kind=WaitKind.BUDGET), next_turn=BEGUN, rooms=[ROOM]
    )
    told = "its budget is now $1.00, 3 turns"
    assert caps_receipt_text(state(Status.QUEUED, WaitKind.SLOT, BEGUN), caps, resumed=True) == (
        f"{told}; its turn continues where it stopped"
    )
    assert caps_receipt_text(short, caps, resumed=False) == f"{told}; it still waits: budget $0.50 of $0.50"
    assert caps_receipt_text(state(Status.WORKING), caps, resumed=False) == told


@pytest.mark.requirement("agent:command:every-state-decides")
def test_every_state_gives_an_interrupt_one_decision_or_a_refusal_with_a_hint() -> None:
    for agent, descendants_open in product(STATES, [False, True]):
        begun = agent.next_turn is not None and agent.next_turn.has_begun
        held = agent.wait is not None and agent.wait.kind is WaitKind.HELD
        unbegun = Interruption.HELD if held else Interruption.QUEUED
        own = {
            Status.WORKING: Interruption.RUNNING,
            Status.QUEUED: Interruption.BEGUN if begun and not held else unbegun,
            Status.WAITING: Interruption.BEGUN if begun and not held else unbegun,
        }.get(agent.status, Interruption.DESCENDANTS if descendants_open else None)
        if own is None:
            with pytest.raises(ConflictError) as error:
                decide_interrupt(agent, descendants_open=descendants_open)
            assert error.value.hint
        else:
            assert decide_interrupt(agent, descendants_open=descendants_open) is own
