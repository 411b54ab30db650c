"""What every provider must do with its real program; a vendor's test module inherits it and provides `lab`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.domain.event import (
    Opened,
    Retrying,
    Said,
    SessionEvent,
    SessionOutcome,
    Stalled,
    ToolEnded,
    ToolStarted,
    Used,
)
from orchestrator.domain.tool import Allow, Deny, GateDecision, ToolCall
from orchestrator.errors import InvalidError, ProviderError
from orchestrator.providers.base import Session, SessionSpec

from .lab import Crew, Lab, ended, of, run, wait_for

pytestmark = pytest.mark.anyio


class Contract:
    """The behaviours that the fleet builds on."""

    @pytest.mark.requirement(
        "turn:usage:unknown-stays-unknown",
        "turn:events:messages-and-tool-calls",
        "provider:model:as-requested",
        "session:id:before-process",
    )
    async def test_a_plain_turn_says_its_text_and_what_it_used(self, lab: Lab) -> None:
        spec = lab.spec()
        events = await run(await lab.open(spec), "say good morning")
        end = ended(events)
        assert (end.outcome, end.text, end.reason, end.denied) == (SessionOutcome.COMPLETE, "good morning", "", ())
        assert [said.text for said in of(Said, events)] == ["good morning"]
        assert [(opened.session_id, opened.model) for opened in of(Opened, events)] == [
            (spec.session_id, lab.vendor.model)
        ]
        assert end.usage.model_calls == 1
        assert end.usage.input_tokens > 0
        assert end.usage.output_tokens > 0
        assert end.usage.context_tokens is not None
        assert end.usage.context_window_tokens == 200_000
        assert end.cost_usd is not None
        assert end.cost_usd > 0
        assert of(Used, events)

    @pytest.mark.requirement("turn:usage:cost-counted-once", "turn:usage:unknown-stays-unknown")
    async def test_turns_of_one_session_cost_the_difference_of_its_total(self, lab: Lab) -> None:
        session = await lab.open(lab.spec())
        first = ended(await run(session, "say one"))
        second = ended(await run(session, "say two"))
        assert first.cost_usd is not None
        assert second.cost_usd is not None
        assert second.cost_usd > 0
        assert second.session_cost_usd == pytest.approx(first.cost_usd + second.cost_usd)
        assert second.text == "two"

    @pytest.mark.requirement("turn:task:verbatim", "error:text:unicode")
    async def test_a_prompt_is_data_whatever_it_looks_like(self, lab: Lab) -> None:
        (lab.work / "secret.txt").write_text("the contents of a file")
        session = await lab.open(lab.spec())
        for text in ("say /clear @secret.txt !ls \N{TANGERINE}", "say \u202e\u0007 #memory"):
            assert ended(await run(session, text)).text == text.removeprefix("say ")
        odd = ended(await run(session, "long \0 \ud800"))
        assert odd.outcome is SessionOutcome.COMPLETE
        assert odd.text.endswith(", 1 NUL")

    async def test_a_prompt_of_a_megabyte_arrives_whole(self, lab: Lab) -> None:
        session = await lab.open(lab.spec())
        end = ended(await run(session, "long " + "word " * 200_000 + "."))
        assert end.text.startswith("1000006 characters")

    @pytest.mark.requirement("turn:artifacts:from-the-tools", "turn:events:messages-and-tool-calls")
    @pytest.mark.requirement("session:background:impossible")
    async def test_nothing_can_be_put_in_the_background(self, lab: Lab) -> None:
        events = await run(await lab.open(lab.spec()), "background")
        assert ended(events).text == "refused=True"
        assert [call.ok for call in of(ToolEnded, events)] == [False]

    @pytest.mark.requirement("turn:artifacts:from-the-tools", "turn:events:messages-and-tool-calls")
    async def test_files_that_tools_read_and_wrote_are_told(self, lab: Lab) -> None:
        (lab.work / "one.txt").write_text("a needle\n")
        (lab.work / "two.txt").write_text("hay\n")
        (lab.work / "three.md").write_text("another needle\n")
        session = await lab.open(lab.spec())
        events = await run(session, f"files in={lab.work}")
        assert ended(events).outcome is SessionOutcome.COMPLETE
        began, over = of(ToolStarted, events), of(ToolEnded, events)
        assert sorted(call.call_id for call in began) == sorted(call.call_id for call in over)
        one, two, three, new = (str(lab.work / name) for name in ("one.txt", "two.txt", "three.md", "new.txt"))
        consumed = {path for call in over for path in call.consumed}
        assert consumed == {one, three}
        assert two not in consumed
        assert {path for call in over for path in call.produced} == {new, one}
        assert all({one, three} == set(call.consumed) for call in over if call.tool == "Grep")
        failed = [call for call in over if not call.ok]
        assert [call.tool for call in failed] == ["Read"]
        assert "does not exist" in failed[0].summary
        assert new in {call.summary for call in began}

    @pytest.mark.requirement("persona:tools:exactly-its-own")
    async def test_a_tool_that_is_not_given_cannot_be_used(self, lab: Lab) -> None:
        session = await lab.open(lab.spec(tools=("Read",)))
        end = ended(await run(session, "absent"))
        assert end.text.startswith("error=True")
        assert not (lab.work / "ran").exists()
        assert lab.vendor.shell not in str(lab.endpoint.log()[-1]["tools"])

    @pytest.mark.requirement("permission:gate:every-call-asked")
    async def test_the_reason_of_a_denial_reaches_the_model(self, lab: Lab) -> None:
        crew = Crew(rule=lambda call: Deny("not on a Sunday") if call.name == lab.vendor.shell else Allow())
        session = await lab.open(lab.spec(crew))
        events = await run(session, "shell touch ran")
        assert "not on a Sunday" in ended(events).text
        assert ended(events).outcome is SessionOutcome.COMPLETE
        assert ended(events).denied == ()
        assert [call.ok for call in of(ToolEnded, events)] == [False]
        assert not (lab.work / "ran").exists()

    @pytest.mark.requirement("permission:gate:fails-closed")
    async def test_a_gate_that_fails_lets_nothing_through(self, lab: Lab) -> None:
        async def broken(call: ToolCall) -> GateDecision:
            raise RuntimeError(f"the store is away, {call.name}")

        session = await lab.open(lab.spec(decide=broken))
        end = ended(await run(session, "shell touch ran"))
        assert end.outcome is SessionOutcome.COMPLETE
        assert not (lab.work / "ran").exists()

    @pytest.mark.requirement("permission:gate:every-call-asked")
    async def test_what_the_gate_allows_is_not_refused_by_the_program(self, lab: Lab) -> None:
        (lab.work / ".claude").mkdir()
        session = await lab.open(lab.spec())
        end = ended(await run(session, f"hidden folder in={lab.work}"))
        assert (lab.work / ".claude" / "note.txt").read_text() == "x"
        assert end.denied == ()

    async def test_crew_tools_go_through_the_gate_and_answer(self, lab: Lab) -> None:
        crew = Crew()
        session = await lab.open(lab.spec(crew))
        assert ended(await run(session, "note a thing")).text.startswith("noted a thing")
        assert [call.name for call in crew.asked] == [lab.vendor.ask.replace("ask", "note")]
        assert crew.notes == [(crew.asked[0].id, {"text": "a thing"})]
        assert "no more notes -> end your turn" in ended(await run(session, "note refuse")).text
        wrong = ended(await run(session, "badly note")).text
        assert wrong.startswith("error=True")
        assert "'text' is missing" in wrong

    @pytest.mark.requirement("question:ask:closes-process")
    async def test_a_question_ends_the_run_and_its_answer_goes_on_in_a_new_process(self, lab: Lab) -> None:
        crew = Crew()
        spec = lab.spec(crew)
        session = await lab.open(spec)
        first = ended(await run(session, "ask"))
        assert first.outcome is SessionOutcome.DEFERRED
        assert first.deferred is not None
        assert first.deferred.name == lab.vendor.ask
        assert first.deferred.input == {"question": "Which colour?"}
        await session.close()
        calls = len(lab.endpoint.log())
        crew.answers[first.deferred.id] = "blue"
        resumed = await lab.open(_again(spec, first.session_cost_usd))
        events = await run(resumed, None)
        second = ended(events)
        assert (second.outcome, second.text) == (SessionOutcome.COMPLETE, "the answer is: blue")
        assert [(call.tool, call.call_id, call.ok) for call in of(ToolEnded, events)] == [
            (lab.vendor.ask, first.deferred.id, True)
        ]
        assert len(lab.endpoint.log()) == calls + 1
        assert second.cost_usd is not None
        assert second.cost_usd > 0

    async def test_a_question_without_an_answer_goes_on_waiting_at_no_cost(self, lab: Lab) -> None:
        crew = Crew()
        spec = lab.spec(crew)
        session = await lab.open(spec)
        first = ended(await run(session, "ask"))
        await session.close()
        calls = len(lab.endpoint.log())
        waiting = await lab.open(_again(spec))
        second = ended(await run(waiting, None))
        assert second.outcome is SessionOutcome.DEFERRED
        assert second.deferred == first.deferred
        assert len(lab.endpoint.log()) == calls

    async def test_of_two_questions_at_once_one_waits_and_the_other_is_told_so(self, lab: Lab) -> None:
        crew = Crew()
        spec = lab.spec(crew)
        session = await lab.open(spec)
        first = ended(await run(session, "two asks"))
        assert first.deferred is not None
        assert first.deferred.input == {"question": "Which colour?"}
        await session.close()
        crew.answers[first.deferred.id] = "blue"
        second = ended(await run(await lab.open(_again(spec)), None))
        assert "first: blue" in second.text
        assert "one question at a time" in second.text

    async def test_a_new_prompt_gives_up_a_question_that_still_waits(self, lab: Lab) -> None:
        spec = lab.spec()
        session = await lab.open(spec)
        await run(session, "ask")
        await session.close()
        end = ended(await run(await lab.open(_again(spec)), "never mind"))
        assert end.outcome is SessionOutcome.COMPLETE
        assert "Tool result missing" in end.text

    @pytest.mark.requirement("session:resume:by-id")
    async def test_a_resumed_session_knows_what_was_before(self, lab: Lab) -> None:
        spec = lab.spec()
        session = await lab.open(spec)
        first = ended(await run(session, "shell echo the moon is $((40 + 2))"))
        await session.close()
        again = await lab.open(_again(spec, first.session_cost_usd))
        second = ended(await run(again, "recall"))
        assert second.text.startswith("the moon is 42")
        assert second.cost_usd is not None
        assert first.cost_usd is not None
        assert 0 < second.cost_usd < first.cost_usd

    @pytest.mark.requirement("turn:interrupt:running")
    async def test_an_interrupt_in_a_tool_ends_the_run_and_the_session_goes_on(self, lab: Lab) -> None:
        session = await lab.open(lab.spec())
        running = asyncio.create_task(run(session, "shell touch began; sleep 60"))
        await wait_for((lab.work / "began").exists, "the tool has begun")
        await session.interrupt()
        end = ended(await running)
        assert (end.outcome, end.reason) == (SessionOutcome.INTERRUPTED, "interrupted")
        assert end.text == "I run it."
        assert ended(await run(session, "say still here")).text == "still here"

    @pytest.mark.requirement("turn:interrupt:running")
    async def test_an_interrupt_in_an_answer_or_before_it_ends_the_run(self, lab: Lab) -> None:
        session = await lab.open(lab.spec())
        await session.interrupt()
        calls = len(lab.endpoint.log())
        running = asyncio.create_task(run(session, "slow"))
        await asyncio.sleep(0)
        await session.interrupt()
        assert ended(await running).outcome is SessionOutcome.INTERRUPTED
        running = asyncio.create_task(run(session, "slow"))
        await wait_for(lambda: len(lab.endpoint.log()) > calls, "the model was called")
        await session.interrupt()
        assert ended(await running).outcome is SessionOutcome.INTERRUPTED

    @pytest.mark.requirement("turn:max-turns:fails-with-reason")
    async def test_a_run_stops_at_its_number_of_turns_with_what_it_said(self, lab: Lab) -> None:
        session = await lab.open(lab.spec(max_turns=2))
        end = ended(await run(session, "many"))
        assert (end.outcome, end.reason) == (SessionOutcome.FAILED, "max_turns")
        assert end.text == "One.\n\nTwo."
        assert end.hint

    @pytest.mark.requirement("session:messages:many-megabytes")
    async def test_a_tool_input_of_two_megabytes_arrives(self, lab: Lab) -> None:
        path = lab.work / "big.txt"
        session = await lab.open(lab.spec())
        assert ended(await run(session, f"big {path}")).outcome is SessionOutcome.COMPLETE
        assert path.stat().st_size == 2_000_000

    @pytest.mark.requirement(
        "turn:outcome:no-false-success",
        "error:model-api:401",
        "error:model-api:429",
        "error:model-api:500",
        "error:model-api:529",
        "error:model-api:stream-cut",
    )
    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            ("401", "auth"),
            ("402", "credit"),
            ("404", "not_found"),
            ("429", "quota"),
            ("500", "overloaded"),
            ("529", "overloaded"),
            ("cut", "api"),
            ("html", "api"),
            ("empty", "api"),
            ("context", "context"),
            ("refusal", "refusal"),
        ],
    )
    async def test_a_fault_of_the_model_ends_as_what_it_is(self, lab: Lab, fault: str, reason: str) -> None:
        session = await lab.open(lab.spec())
        end = ended(await run(session, f"fault {fault}"))
        assert (end.outcome, end.reason) == (SessionOutcome.FAILED, reason)
        assert end.detail
        assert end.hint

    @pytest.mark.requirement("error:model-api:connection-refused")
    async def test_a_refused_connection_ends_as_a_fault_of_the_model(self, lab: Lab) -> None:
        spec = lab.spec(environment=lab.vendor.environment("http://127.0.0.1:9", lab.place))
        end = ended(await run(await lab.open(spec), "say hello"))
        assert (end.outcome, end.reason) == (SessionOutcome.FAILED, "api")

    async def test_a_fault_that_passes_is_told_and_survived(self, lab: Lab) -> None:
        events = await run(await lab.open(lab.spec()), "retried")
        assert ended(events).text == "at last"
        assert [(retry.attempt, retry.status) for retry in of(Retrying, events)] == [(1, 529)]

    async def test_what_was_said_before_a_fault_is_kept(self, lab: Lab) -> None:
        end = ended(await run(await lab.open(lab.spec()), "partial"))
        assert (end.outcome, end.reason, end.text) == (SessionOutcome.FAILED, "overloaded", "I got this far.")

    @pytest.mark.requirement("error:model-api:silence")
    async def test_silence_is_told_and_then_ended(self, lab: Lab, impatient: Session) -> None:
        events: list[SessionEvent] = await run(impatient, "fault silence")
        assert len(of(Stalled, events)) == 1
        assert (ended(events).outcome, ended(events).reason) == (SessionOutcome.FAILED, "silence")

    async def test_a_tool_may_be_silent_for_longer(self, lab: Lab, impatient: Session) -> None:
        events = await run(impatient, "shell sleep 7; echo awake")
        assert not of(Stalled, events)
        assert "awake" in ended(events).text

    @pytest.mark.requirement("handshake:account:of-the-creating-door")
    async def test_nothing_of_this_process_reaches_the_agent(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLEET_TEST_SECRET", "hush-hush")
        monkeypatch.setenv("DATABASE_URL", "hush-hush")
        session = await lab.open(lab.spec())
        text = ended(await run(session, "shell env | sort; cat /proc/$PPID/environ | tr '\\0' '\\n'")).text
        assert "HOME=" in text
        assert "hush-hush" not in text
        assert "FLEET_TEST_SECRET" not in text
        assert "PYTEST_CURRENT_TEST" not in text

    @pytest.mark.requirement("error:model:unknown-alias")
    async def test_models_are_checked_before_anything_starts(self, lab: Lab) -> None:
        provider = lab.vendor.make(lab.place)
        for model in [*provider.models(), lab.vendor.model]:
            provider.check_model(model)
        for wrong in ("gpt-9", "", "haiku ", "claude-", "--model", "x" * 5000):
            with pytest.raises(InvalidError, match="valid: "):
                provider.check_model(wrong)

    async def test_a_missing_directory_is_told_in_words(self, lab: Lab) -> None:
        with pytest.raises(ProviderError, match="nowhere"):
            await lab.open(lab.spec(cwd=lab.work / "nowhere"))


def _again(spec: SessionSpec, cost_usd: float | None = None) -> SessionSpec:
    """The same agent after a restart."""
    return replace(spec, resume=True, session_cost_usd=cost_usd)
