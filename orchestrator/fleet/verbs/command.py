"""Commands an agent: gives it its next task, answers its question, or sets its caps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator import log
from orchestrator.domain.agent import checked_text
from orchestrator.domain.budget import Unit, checked_caps
from orchestrator.domain.question import AnsweredBy
from orchestrator.domain.text import listed
from orchestrator.domain.tool import CallContext
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import FleetError
from orchestrator.fleet.checks.criteria import NOTHING_NEW, Verify
from orchestrator.fleet.context import FleetContext, stored_key
from orchestrator.fleet.verbs.adopt import check_place, claim, yours_now
from orchestrator.fleet.verbs.create import check_passed, new_id
from orchestrator.fleet.verbs.inputs import find_inputs
from orchestrator.fleet.views import Receipt
from orchestrator.store.agents import commands
from orchestrator.store.waits.questions import ClosedQuestionError, OtherQuestionError

LOG = log.logger("fleet.command")


async def command(
    context: FleetContext,
    call: CallContext,
    agent: str,
    task: str,
    *,
    mode: DeliveryMode = DeliveryMode.QUEUE,
    inputs: Sequence[str] | None = None,
    only_answer: bool = False,
    question: str | None = None,
    is_read: bool = False,
    caps: Mapping[Unit, float | None] | None = None,
    verify: Verify = NOTHING_NEW,
) -> Receipt:
    """Check and apply the command; `question` is the id of the question that the task answers, or its beginning.

    With `is_read`, its caller was shown all of that question just now.

    Raises:
        FleetError: nothing was changed.
    """
    seen = context.shown.by(call)  # read first: a concurrent call of the same message may show it a new question
    check_passed(call.caller)
    async with context.preparing(call):  # held until it is committed: the calls of one message keep their order
        await context.confirm(call)
        found = await context.find(call.caller, agent)
        await check_place(found)
        sources = await find_inputs(context, call.caller, inputs or ())
        asked = commands.Command(
            agent_id=found.id,
            caps=(given := checked_caps(caps or {})),
            text=checked_text("task", task) if task or not given else "",
            mode=mode,
            inputs=None if inputs is None else [source.id for source in sources.agents],
            any_end=sources.any_end,
            briefs=sources.briefs,
            turn_id=new_id("tn"),
            call_key=stored_key(call),
            account=context.work.accounts.bring(call.caller),
            verify=await verify.checked(),
            only_answer=only_answer,
            by=AnsweredBy.PERSON if call.person else AnsweredBy.ORCHESTRATOR,
            **context.shown.meant(call, found.id, seen.get(found.id), question, is_read=is_read),
        )
        done = await _commit(context, call, asked)
    receipt = await _carry_out(context, found.name, asked, done)
    return receipt if only_answer else _with_claim(receipt, await _claimed(context, call, found.id))


def _with_claim(receipt: Receipt, claimed: Sequence[str]) -> Receipt:
    return receipt.model_copy(update={"happened": "; ".join(filter(None, [receipt.happened, yours_now(claimed)]))})


async def _claimed(context: FleetContext, call: CallContext, agent_id: str) -> Sequence[str]:
    """Claim the agent of an ended session; the command stands even if another session was faster."""
    try:
        return await claim(context, call, [agent_id])
    except FleetError as error:
        LOG.warning("not_claimed", agent=agent_id, error=error.message)
        return ()


async def _commit(context: FleetContext, call: CallContext, asked: commands.Command) -> commands.Commanded:
    """Apply the command in its transaction, and note what its caller is told by the receipt or the refusal."""
    try:
        done = await context.work.commit(commands.command, asked, context.work.clock())
    except OtherQuestionError as error:
        context.shown.refused(call, asked.agent_id, asked.question_id, error.question_id)
        raise
    except ClosedQuestionError:
        context.shown.refused(call, asked.agent_id, asked.question_id, None)
        raise
    if done.answered is not None:
        context.shown.answered(call, asked.agent_id, done.answered)
    elif asked.text and not done.is_repeat:
        context.shown.commanded(call, asked.agent_id)
    return done


async def _carry_out(context: FleetContext, name: str, asked: commands.Command, done: commands.Commanded) -> Receipt:
    """Interrupt or steer the sessions concerned, and return the receipt."""
    for agent_id, turn_id in done.running.items():
        context.slots.interrupt(agent_id, "interrupted", turn_id)
    happened = done.happened
    if done.steer and done.turn_id is not None:
        happened = await context.slots.steer(asked.agent_id, done.turn_id, asked.text) or happened
    if (checks := asked.verify.checks) is not None:
        happened += f"; its checks are now: {listed([check.title for check in checks], most=5) or 'none'}"
    return Receipt(agent=asked.agent_id, name=name, turn_id=done.turn_id, happened=happened)
