"""The choice of a reply depends only on the script and the conversation."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.rehearsal.conversation import Conversation, Message, ToolResult
from orchestrator.rehearsal.play import Answer, Unmatched, choose
from tests.rehearsal.asking import asked, assistant, play_on, results, script, user

STEPS = script("""
    - calls: [{tool: Read, as: first, input: {file_path: "{{ task }}"}}]
    - calls: [{tool: Grep, input: {pattern: "{{ results.first }}"}}]
    - say: "{{ results.first }} then {{ results.grep }}"
""")


def _says(replies: str, *messages: Message, match: str = "{}") -> str:
    return choose(script(replies, match), asked(*messages)).text


def test_the_number_of_the_reply_is_the_number_of_turns_since_the_task() -> None:
    assert [answer.number for answer in play_on(STEPS, user("go"))] == [1, 2, 3]


def test_a_new_task_starts_again_and_keeps_earlier_results() -> None:
    first = choose(STEPS, asked(user("one")))
    history = (user("one"), assistant(), results(first, ["A"]), assistant("done"), user("two"))
    loaded = script('- say: "{{ task }} after {{ results.first }}"')
    assert choose(loaded, asked(*history)).text == "two after A"
    assert choose(STEPS, asked(*history)).number == 1


def test_consecutive_assistant_messages_are_one_turn() -> None:
    history = (user("go"), assistant("a"), assistant("b"), user("<system-reminder>x</system-reminder>"))
    loaded = script("""
        - say: first
        - say: second
    """)
    assert choose(loaded, asked(*history)).text == "second"


def test_what_the_cli_says_in_the_names_of_others_is_neither_task_nor_turn() -> None:
    history = (
        user("<system-reminder>date</system-reminder>", "go", "<system-reminder>more</system-reminder>"),
        Message("system", ("# Environment",)),
        assistant("No response requested."),
        user("Continue from where you left off."),
        Message("system", ("a note at the end",)),
    )
    answer = choose(STEPS, asked(*history))
    assert (answer.task, answer.number) == ("go", 1)


def test_the_prompt_behind_an_interrupt_is_the_task_although_results_stand_beside_it() -> None:
    call = choose(STEPS, asked(user("one"))).calls[0]
    stopped = Message(
        "user",
        ("[Request interrupted by user for tool use]\n", "two"),
        (ToolResult(call.id, "stopped", is_error=True),),
    )
    answer = choose(STEPS, asked(user("one"), assistant(), stopped))
    assert (answer.task, answer.number) == ("two", 1)


def test_text_beside_results_without_an_interrupt_is_no_task() -> None:
    call = choose(STEPS, asked(user("one"))).calls[0]
    beside = Message("user", ("a skill's text",), (ToolResult(call.id, "A"),))
    answer = choose(STEPS, asked(user("one"), assistant(), beside))
    assert (answer.task, answer.number) == ("one", 2)


def test_what_a_person_says_meanwhile_is_known_but_no_task() -> None:
    steer = "The user sent a new message while you were working:\nstop it\n\nThis is how Claude Code surfaces messages"
    loaded = script("""
        - calls: [{tool: Bash}]
        - say: "heard {{ steers | join }} in {{ task }}"
    """)
    first = choose(loaded, asked(user("go")))
    history = (user("go"), assistant(), results(first, ["x"]), Message("system", (steer,)))
    assert choose(loaded, asked(*history)).text == "heard stop it in go"


@pytest.mark.requirement("rehearsal:parts:chosen-by-header-or-prompt")
@pytest.mark.parametrize(
    ("match", "fields", "matches"),
    [
        ('{agent: "scout-*"}', {"agent": "scout-2"}, True),
        ('{agent: "scout-*"}', {"agent": "builder"}, False),
        ('{agent: "scout-*"}', {}, False),
        ("{persona: scout, agent: a}", {"persona": "scout", "agent": "b"}, False),
        ('{model: "claude-*"}', {"model": "claude-x"}, True),
        ('{system: "You (are|were) a planner"}', {"system": "…\nYou are a planner."}, True),
        ('{system: "builder"}', {"system": "scout"}, False),
        ('{task: "^go"}', {}, True),
        ('{task: "^stay"}', {}, False),
        ("{}", {}, True),
    ],
)
def test_a_part_matches_when_all_that_it_names_does(match: str, fields: dict[str, str], *, matches: bool) -> None:
    loaded = script("- say: mine", match)
    if matches:
        assert choose(loaded, asked(user("go"), **fields)).text == "mine"
    else:
        with pytest.raises(Unmatched, match="no part matches"):
            choose(loaded, asked(user("go"), **fields))


def test_named_groups_of_the_task_are_variables() -> None:
    match = "{task: 'from (?P<old>\\w+)( to (?P<new>\\w+))?'}"
    assert _says('- say: "{{ old }}>{{ new }}<"', user("from a to b"), match=match) == "a>b<"
    assert _says('- say: "{{ old }}>{{ new }}<"', user("from a"), match=match) == "a><"


@pytest.mark.requirement("rehearsal:templates:task-and-results")
def test_for_each_makes_a_call_per_item_and_gives_back_a_list_in_order() -> None:
    loaded = script("""
        - calls:
            - tool: Read
              for_each: "{{ task | findall('(?P<path>\\\\S+):(?P<line>\\\\d+)') }}"
              input: {file_path: "{{ item.path }}", offset: "{{ item.line | int }}", title: "no {{ index }}"}
        - say: "{{ results.read | join('+') }} and {{ errors }}"
    """)
    first = choose(loaded, asked(user("a.py:3 b.py:14")))
    assert [call.input for call in first.calls] == [
        {"file_path": "a.py", "offset": 3, "title": "no 0"},
        {"file_path": "b.py", "offset": 14, "title": "no 1"},
    ]
    reversed_results = Message("user", (), tuple(reversed(results(first, ["A", "B"], errors=[1]).results)))
    assert choose(loaded, asked(user("a.py:3 b.py:14"), assistant(), reversed_results)).text == "A+B and ['read']"


def test_a_later_result_replaces_the_earlier_and_its_error() -> None:
    loaded = script("""
        - calls: [{tool: Bash}]
        - calls: [{tool: Bash}]
        - say: "{{ results.bash }} {{ errors }}"
    """)
    first = choose(loaded, asked(user("go")))
    history = [user("go"), assistant(), results(first, ["bad"], errors=[0])]
    second = choose(loaded, asked(*history))
    history += [assistant(), results(second, ["good"])]
    assert choose(loaded, asked(*history)).text == "good []"


def test_a_condition_is_decided_with_what_was_known_when_it_was_due() -> None:
    loaded = script("""
        - calls: [{tool: Bash}]
        - say: skipped
          when: "{{ results.bash == 'later' }}"
        - calls: [{tool: Bash}]
        - say: last
    """)
    first = choose(loaded, asked(user("go")))
    history = [user("go"), assistant(), results(first, ["early"])]
    second = choose(loaded, asked(*history))
    assert second.number == 3
    history += [assistant(), results(second, ["later"])]
    assert choose(loaded, asked(*history)).text == "last"


def test_a_reply_of_which_nothing_is_left_is_skipped() -> None:
    replies = """
        - calls: [{tool: Read, for_each: "{{ [] }}"}]
        - say: "{{ results.read | default('none') }}"
    """
    assert _says(replies, user("go")) == "none"


@pytest.mark.requirement("rehearsal:unmatched:named")
def test_the_last_reply_is_not_repeated() -> None:
    with pytest.raises(Unmatched, match=r"'only' \(short.yaml:3\) has no reply left for model call 2 .*'only' has 1"):
        choose(
            script("- say: once"), asked(user("go"), assistant("once"), user("<system-reminder>x</system-reminder>"))
        )


def test_a_template_that_fails_is_located_and_says_what_is_known() -> None:
    replies = """
        - calls: [{tool: Bash}]
        - say: "fine"
          calls:
            - tool: Read
              input: {path: "{{ results.bsh }}"}
    """
    first = choose(script(replies), asked(user("go")))
    with pytest.raises(Unmatched, match=r"part 'only', reply 2 \(short.yaml:8\).*'bsh'.*results so far: bash"):
        choose(script(replies), asked(user("go"), assistant(), results(first, ["x"])))


def test_a_for_each_over_something_else_than_a_list_is_refused() -> None:
    with pytest.raises(Unmatched, match=r"for_each needs a list, and .* is a int"):
        choose(script('- calls: [{tool: Read, for_each: "{{ 3 }}"}]'), asked(user("go")))


def test_repeated_text_and_calls_are_bounded() -> None:
    with pytest.raises(Unmatched, match="repeated 4000000 times; the limit is"):
        choose(script('- {say: "much", repeat: 4000000}'), asked(user("go")))
    with pytest.raises(Unmatched, match="more than 1000 calls"):
        choose(script('- calls: [{tool: Read, for_each: "{{ range(2000) }}"}]'), asked(user("go")))


words = st.sampled_from(["go", "rename a to b", "", "<system-reminder>x</system-reminder>", "x{{ 1 }}", "\ud83d\ude00"])
ids = st.sampled_from(["toolu_bash-0123456789abcdef-0", "toolu_read-0123456789abcdef-m1", "toolu_01", ""])
messages = st.builds(
    Message,
    st.sampled_from(["user", "assistant", "system"]),
    st.lists(words, max_size=3).map(tuple),
    st.lists(st.builds(ToolResult, ids, words, st.booleans()), max_size=3).map(tuple),
)
conversations = st.builds(
    Conversation,
    st.lists(messages, max_size=12).map(tuple),
    agent=words,
    fingerprint=st.sampled_from(["0123456789abcdef", "f" * 16]),
)
ANYONE = script("""
    - say: "one {{ results | length }}"
      calls: [{tool: Bash}, {tool: Read, for_each: "{{ results.read | default([1, 2]) }}"}]
    - calls: [{tool: Bash}]
      when: "{{ 'bash' in errors }}"
    - say: "two {{ task }} {{ steers | length }}"
""")


@given(conversations)
@settings(max_examples=300, deadline=None)
def test_the_same_request_has_the_same_reply_with_the_same_ids_and_no_id_twice(conversation: Conversation) -> None:
    first, second = _outcome(conversation), _outcome(conversation)
    assert first == second
    if isinstance(first, Answer):
        identities = [call.id for call in first.calls]
        assert len(set(identities)) == len(identities)


def _outcome(conversation: Conversation) -> Answer | str:
    try:
        return choose(ANYONE, conversation)
    except Unmatched as unmatched:
        return str(unmatched)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_played_part_uses_every_reply_once_and_in_order(calls: list[int]) -> None:
    replies = "\n".join(f"- calls: [{', '.join(['{tool: Bash}'] * count)}]" for count in calls)
    answers = play_on(script(f"{replies}\n- say: end"), user("go"))
    assert [answer.number for answer in answers] == list(range(1, len(calls) + 2))
    assert [len(answer.calls) for answer in answers] == [*calls, 0]
    identities = [call.id for answer in answers for call in answer.calls]
    assert len(set(identities)) == len(identities)
