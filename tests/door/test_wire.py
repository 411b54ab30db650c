"""The door with clients whose JSON-RPC is unusual: whole numbers with a point, a byte order mark, half a handshake."""

from __future__ import annotations

import json

import pytest

from tests.fixtures.raw_door import INITIALIZE, Message, RawDoors

NOWHERE: Message = {}


@pytest.mark.requirement("door:wire:unusual-ids-and-marks")
def test_an_id_with_a_point_and_a_byte_order_mark_are_answered(open_door: RawDoors) -> None:
    door = open_door()
    first = {"jsonrpc": "2.0", "id": 1.0, "method": "initialize", "params": INITIALIZE}
    door.send(b"\xef\xbb\xbf" + json.dumps(first).encode() + b"\n")
    assert door.answer(1)["result"]["protocolVersion"] == INITIALIZE["protocolVersion"]
    door.send(b'{"jsonrpc":"2.0","id":2e2,"method":"ping"}\n')
    assert door.answer(200)["result"] == {}
    door.send(b'{"jsonrpc":"2.0","id":2.5,"method":"ping"}\n')
    assert "whole number" in door.receive()["error"]["message"]


@pytest.mark.requirement("door:wire:what-is-missing")
def test_a_request_before_its_handshake_and_a_partial_one_are_told_what_is_missing(open_door: RawDoors) -> None:
    door = open_door()
    assert door.call("tools/list", era=NOWHERE)["error"]["message"] == (
        "tools/list: the client sent no accepted initialize: send one with protocolVersion, capabilities and clientInfo"
    )
    said = door.call("initialize", era=NOWHERE)["error"]["message"]
    assert said == "initialize: capabilities, clientInfo, protocolVersion are missing"
    nameless = {**INITIALIZE, "clientInfo": {"version": "1"}}
    said = door.call("initialize", era=nameless)["error"]["message"]
    assert said == "initialize: clientInfo.name is missing"
    assert "result" in door.call("initialize", era=INITIALIZE)
    said = door.call("tools/call", {"name": 3}, era=NOWHERE)["error"]["message"]
    assert said == "tools/call: name: Input should be a valid string"
