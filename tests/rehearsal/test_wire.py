"""The endpoint over HTTP, called by the official client and by plain requests."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import anthropic
import httpx
import pytest

from orchestrator.rehearsal import Rehearsal, RehearsalError, start
from tests.rehearsal.conftest import SCRIPTS, wait_until

WAIT_SECONDS = 60
QUIET_SECONDS = 0.3
"""How long silence is listened to; what never comes cannot be missed by listening too short."""
EMPTY: Mapping[str, str] = MappingProxyType({})


def _client(rehearsal: Rehearsal, headers: Mapping[str, str] = EMPTY) -> anthropic.Anthropic:
    http = anthropic.DefaultHttpxClient(trust_env=False)
    return anthropic.Anthropic(
        api_key="k", base_url=rehearsal.url, max_retries=0, default_headers=headers, http_client=http
    )


def _say(
    rehearsal: Rehearsal, task: str, system: str = "", headers: Mapping[str, str] = EMPTY
) -> anthropic.types.Message:
    with _client(rehearsal, headers) as client:
        return client.messages.create(
            model="claude-sonnet-5", max_tokens=100, system=system, messages=[{"role": "user", "content": task}]
        )


def _body(task: str, *, stream: bool = False, model: str = "m") -> dict[str, object]:
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": task}]}


def _post(rehearsal: Rehearsal, body: object, path: str = "/v1/messages") -> httpx.Response:
    return httpx.post(f"{rehearsal.url}{path}", json=body, trust_env=False, timeout=WAIT_SECONDS)


def _text(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.requirement("rehearsal:parts:chosen-by-header-or-prompt")
def test_a_part_is_chosen_by_header_else_by_system_prompt_or_model(wire: Rehearsal) -> None:
    named = {"x-fleet-agent": "scout-3", "x-fleet-persona": "scout"}
    assert _text(_say(wire, "x", headers=named)) == "I am scout-3, a scout"
    assert _text(_say(wire, "x", system="You are the planner.")) == "by system prompt"
    assert _post(wire, _body("x", model="claude-haiku-4-5")).json()["content"][0]["text"] == "by model"


@pytest.mark.requirement("rehearsal:wire:anthropic-format")
def test_a_streamed_reply_is_the_whole_one_in_pieces(wire: Rehearsal) -> None:
    asked: list[anthropic.types.MessageParam] = [{"role": "user", "content": "call 3"}]
    with _client(wire) as client:
        with client.messages.stream(model="m", max_tokens=100, messages=asked) as stream:
            streamed = stream.get_final_message()
        whole = client.messages.create(model="m", max_tokens=100, messages=asked)

    assert [block.model_dump(exclude={"parsed_output"}) for block in streamed.content] == [
        block.model_dump() for block in whole.content
    ]
    assert [block.type for block in whole.content] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
        "tool_use",
        "tool_use",
    ]
    assert (whole.stop_reason, whole.usage.input_tokens, whole.usage.output_tokens) == ("tool_use", 1234, 56)
    assert (streamed.stop_reason, streamed.usage.input_tokens, streamed.usage.output_tokens) == ("tool_use", 1234, 56)
    calls = [block for block in whole.content if block.type == "tool_use"]
    assert calls[2].input == {"number": 2, "label": "n2", "both": [2, {"deep": 2}]}
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call.id) for call in calls)


@pytest.mark.requirement("rehearsal:templates:task-and-results")
def test_results_are_known_by_the_ids_that_the_reply_gave(wire: Rehearsal) -> None:
    first = _post(wire, _body("call 2")).json()
    calls = [block for block in first["content"] if block["type"] == "tool_use"]
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": f"r{place}"}]}
        for place, call in enumerate(calls)
    ]
    history = [
        {"role": "user", "content": "call 2"},
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": results},
    ]
    second = _post(wire, {"model": "m", "messages": history}).json()
    assert second["content"][0]["text"] == "r0,r1 and r2"
    assert second["stop_reason"] == "end_turn"


def test_a_request_sent_again_gets_the_same_ids_also_from_another_process(wire: Rehearsal) -> None:
    with start(SCRIPTS / "wire.yaml") as other:
        assert _post(wire, _body("call 2")).json() == _post(other, _body("call 2")).json()
    assert _post(wire, _body("call 2")).json() == _post(wire, _body("call 2")).json()


def test_text_can_be_long_and_spread_over_time(wire: Rehearsal) -> None:
    with httpx.stream("POST", f"{wire.url}/v1/messages", json=_body("long", stream=True), trust_env=False) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
    pieces = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(pieces) == "word " * 4000
    assert len(pieces) > 10
    assert [events[0]["type"], events[-1]["type"]] == ["message_start", "message_stop"]
    assert events[-2]["delta"]["stop_reason"] == "max_tokens"


@pytest.mark.requirement("rehearsal:wire:anthropic-format")
def test_tokens_are_counted_by_size(wire: Rehearsal) -> None:
    small, large = _body("x"), _body("x" * 4000)
    counts = [_post(wire, body, "/v1/messages/count_tokens").json()["input_tokens"] for body in (small, large)]
    assert counts[1] - counts[0] in {999, 1000}
    asked = _body("x", model="claude-haiku-4-5")
    usage = _post(wire, asked).json()["usage"]
    assert usage["input_tokens"] == len(json.dumps(asked, separators=(",", ":"))) // 4
    assert usage["output_tokens"] > 0


def test_models_are_listed(wire: Rehearsal) -> None:
    with _client(wire) as client:
        assert "claude-sonnet-5" in [model.id for model in client.models.list()]


@pytest.mark.requirement("rehearsal:faults:statuses-and-streams")
def test_a_fault_with_times_ends_after_so_many_attempts_of_that_request(wire: Rehearsal) -> None:
    with pytest.raises(anthropic.RateLimitError) as error:
        _say(wire, "status")
    assert error.value.response.headers["retry-after"] == "7"
    assert "not now" in str(error.value)
    with pytest.raises(anthropic.RateLimitError):
        _say(wire, "limited")
    assert _post(wire, _body("limited")).status_code == 429, "another request has attempts of its own"
    with pytest.raises(anthropic.RateLimitError):
        _say(wire, "status")
    assert _text(_say(wire, "status")) == "at last"


@pytest.mark.requirement("rehearsal:faults:statuses-and-streams")
@pytest.mark.parametrize(
    ("task", "kind", "body"), [("html", "text/html", b"<html>"), ("empty", "text/event-stream", b"")]
)
def test_a_reply_can_be_something_else(wire: Rehearsal, task: str, kind: str, body: bytes) -> None:
    response = _post(wire, _body(task, stream=True))
    assert (response.status_code, response.headers["content-type"].split(";")[0]) == (200, kind)
    assert response.content[: len(body) or 1] == body


@pytest.mark.requirement("rehearsal:faults:statuses-and-streams")
@pytest.mark.parametrize("task", ["cut", "cut_mid"])
def test_a_connection_can_be_cut(wire: Rehearsal, task: str) -> None:
    got = b""
    with _open(wire, task) as connection:
        while piece := _received(connection):
            got += piece
    assert (b"message_start" in got) == (task == "cut_mid")
    assert b"message_stop" not in got


@pytest.mark.requirement("rehearsal:faults:statuses-and-streams")
@pytest.mark.parametrize("task", ["silence", "silence_mid", "ping"])
def test_a_model_can_fall_silent_and_the_rehearsal_still_ends_at_once(task: str, tmp_path: Path) -> None:
    with start(SCRIPTS / "wire.yaml", log=tmp_path / "log.jsonl") as rehearsal, _open(rehearsal, task) as connection:
        got = b""
        expected = {"silence": b"", "silence_mid": b"content_block_start", "ping": b"event: ping"}[task]
        while expected not in got:
            got += _received(connection)
        wait_until(lambda: [record["fault"] for record in rehearsal.log()] == [task])
        connection.settimeout(QUIET_SECONDS)
        with contextlib.suppress(TimeoutError):
            got += connection.recv(65536)
        assert (b"message_start" in got) == (task != "silence")
        assert b"message_stop" not in got


def _open(rehearsal: Rehearsal, task: str) -> socket.socket:
    """A connection that has asked for a stream."""
    address = httpx.URL(rehearsal.url)
    connection = socket.create_connection((address.host, address.port or 0), timeout=WAIT_SECONDS)
    body = json.dumps(_body(task, stream=True)).encode()
    head = f"POST /v1/messages HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def _received(connection: socket.socket) -> bytes:
    """The next bytes; none when the connection has ended, in whatever way."""
    try:
        return connection.recv(65536)
    except ConnectionError:
        return b""


@pytest.mark.requirement("rehearsal:unmatched:named")
def test_an_unmatched_request_is_told_what_the_script_has(logged: Rehearsal) -> None:
    with pytest.raises(anthropic.BadRequestError) as error:
        _say(logged, "who are you?", headers={"x-fleet-agent": "poet"})
    for part in ("'wire'", "agent 'poet'", "persona '(none)'", "'who are you?'", "agent: 'scout-*'", "wire.yaml:4"):
        assert part in error.value.message
    assert logged.log()[0]["error"] == cast("dict[str, dict[str, str]]", error.value.body)["error"]["message"]


def test_a_template_that_fails_is_told_with_part_reply_and_line(wire: Rehearsal) -> None:
    line = (SCRIPTS / "wire.yaml").read_text().splitlines().index('      - say: "{{ results.nothing }}"') + 1
    response = _post(wire, _body("broken"))
    assert response.status_code == 400
    message = response.json()["error"]["message"]
    assert re.search(rf"part 'broken template', reply 1 \(.*wire.yaml:{line}\), say: .*'nothing'", message)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body"),
        (b"{", "the body: Invalid JSON"),
        (b'{"model": "m"}', "messages: Field required"),
        (b'{"model": "m", "messages": [{"role": "user", "content": 3}]}', "messages.0.content"),
        (b'{"model": "m", "messages": [{"role": "cook", "content": ""}]}', "messages.0.role"),
    ],
)
def test_a_request_that_is_none_is_refused_with_the_place(wire: Rehearsal, body: bytes, said: str) -> None:
    response = httpx.post(f"{wire.url}/v1/messages", content=body, trust_env=False)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert said in response.json()["error"]["message"]


def test_anything_else_is_not_found(wire: Rehearsal) -> None:
    response = httpx.get(f"{wire.url}/v1/complete", trust_env=False)
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found_error"


def test_the_log_tells_who_asked_but_never_the_key(logged: Rehearsal) -> None:
    httpx.post(
        f"{logged.url}/v1/messages",
        json=_body("call 1") | {"tools": [{"name": "Read"}]},
        headers={"authorization": "Bearer very-secret", "x-fleet-agent": "builder"},
        trust_env=False,
    )
    _post(logged, _body("call 1"))
    text = httpx.get(f"{logged.url}/rehearsal/log", trust_env=False).text
    first, second = (json.loads(line) for line in text.splitlines())
    assert "very-secret" not in text
    assert (first["credential"], second["credential"]) == ("bearer", "none")
    assert (first["n"], first["agent"], first["part"], first["reply"]) == (0, "builder", "tools", 1)
    assert (first["tools"], first["input_tokens"], first["stop"]) == (["Read"], 1234, "tool_use")
    since = httpx.get(f"{logged.url}/rehearsal/log?since=1", trust_env=False).text
    assert [json.loads(line)["n"] for line in since.splitlines()] == [1]
    assert [record["n"] for record in logged.log()] == [0, 1]


def test_with_a_key_every_other_key_is_refused() -> None:
    with start(SCRIPTS / "wire.yaml", key="right") as rehearsal:
        answers = [
            httpx.post(
                f"{rehearsal.url}/v1/messages", json=_body("call 1"), headers=headers, trust_env=False
            ).status_code
            for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": "right"}, {"authorization": "Bearer right"})
        ]
    assert answers == [401, 401, 200, 200]


@pytest.mark.requirement("rehearsal:script:line-and-reason")
def test_a_bad_script_does_not_start_and_says_where_it_is_bad(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: bad\npart: []\n")
    with (
        pytest.raises(RehearsalError, match=r"bad.yaml:2: the script has no key 'part'; did you mean 'parts'"),
        start(tmp_path / "bad.yaml"),
    ):
        pytest.fail("it started")


def test_the_program_says_where_it_listens_and_ends_on_a_signal(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    command = [
        sys.executable,
        "-m",
        "orchestrator.rehearsal",
        str(SCRIPTS / "wire.yaml"),
        "--port-file",
        str(port_file),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        health = httpx.get(f"http://127.0.0.1:{told['port']}/rehearsal/health", trust_env=False).json()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=WAIT_SECONDS)
    assert told == {"port": int(port_file.read_text()), "pid": process.pid}
    assert health["rehearsal"] == "wire"
    assert (process.returncode, errors) == (0, "")


def test_the_program_ends_with_its_input_when_asked_to() -> None:
    command = [sys.executable, "-m", "orchestrator.rehearsal", str(SCRIPTS / "wire.yaml"), "--with-stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["pid"] == process.pid
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(WAIT_SECONDS) == 0
