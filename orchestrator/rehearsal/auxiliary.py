"""Answers requests that a client makes for itself, outside the conversation, without the script.

Which ones exist was measured with the Claude CLI 2.1.329. With
`CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1` only a compaction was seen, in `-p`, in the SDK and in the terminal;
without it also the naming of a session. Its safety classifier (auto mode) is not answered here: nothing may
count as safe that was not judged.
"""

from __future__ import annotations

import json

from .conversation import Conversation, own_text
from .play import Answer

_COMPACTION = "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools."
_NAMING = "You are naming a coding session"


def answer(conversation: Conversation) -> Answer | None:
    """The reply to a request that the client makes for itself; None for any other."""
    last = conversation.messages[-1] if conversation.messages else None
    if last is None or last.role == "assistant":
        return None
    said = next((text for text in reversed(last.texts) if text), "")
    if said.startswith(_COMPACTION):
        return _made("compaction", _summary(conversation))
    if _NAMING in conversation.system and said.startswith("<session>") and not conversation.tools:
        return _made("title", json.dumps({"title": "Rehearsal"}))
    return None


def _made(kind: str, text: str) -> Answer:
    return Answer(part="", number=0, task="", text=text, auxiliary=kind)


def _summary(conversation: Conversation) -> str:
    """What a rehearsal can say about a conversation: what was asked for, verbatim."""
    asked = [own_text(message) for message in conversation.messages[:-1] if message.role == "user"]
    listed = "\n".join(f"- {text}" for text in asked if text)
    return f"<analysis>A rehearsal keeps the requests.</analysis>\n<summary>\nRequests so far:\n{listed}\n</summary>"
