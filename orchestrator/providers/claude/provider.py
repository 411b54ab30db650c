"""Claude through claude-agent-sdk and the real `claude` program; importing this loads neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.domain.transcript_state import TranscriptState
from orchestrator.errors import InvalidError
from orchestrator.providers import pricing
from orchestrator.providers.base import Session, SessionSpec, TranscriptStore
from orchestrator.providers.claude.catalog import MODELS, TOOLS, is_model
from orchestrator.providers.watchdog import SilenceLimits
from orchestrator.supervision.tiers import SHIM_TIER, Tier


class ClaudeProvider:
    """Opens Claude sessions; `cli` is the program, None for the one that the SDK brings.

    `shim_dir` is a private directory for the generated launcher. `tier` is how sessions are supervised, `hidden` what
    they must not see where it can hide. `max_retries` bounds how often the program repeats a failed call to the model
    (None: its own rule, 10 times in about three minutes). `transcripts` mirrors the conversations.
    """

    name = "claude"

    def __init__(
        self,
        *,
        shim_dir: Path,
        cli: Path | None = None,
        max_retries: int | None = None,
        limits: SilenceLimits | None = None,
        transcripts: TranscriptStore | None = None,
        tier: Tier = SHIM_TIER,
        hidden: tuple[Path, ...] = (),
    ) -> None:
        self._shim_dir = shim_dir
        self._cli = cli
        self._max_retries = max_retries
        self._limits = limits or SilenceLimits()
        self._transcripts = transcripts
        self._tier = tier
        self._hidden = hidden

    async def open(self, spec: SessionSpec) -> Session:
        """Return a session that is ready for `run`, within 60 s.

        A resumed conversation that waits in a deferred call asks `decide` again at once, before `run`.

        Raises:
            ProviderError: the program cannot start, with its own words on stderr.
        """
        from orchestrator.providers.claude.options import Program
        from orchestrator.providers.claude.start import open_session

        program = Program(
            cli=self._cli,
            shim_dir=self._shim_dir,
            max_retries=self._max_retries,
            tier=self._tier,
            hidden=self._hidden,
            transcripts=self._transcripts,
        )
        return await open_session(spec, program, self._limits)

    async def recall(self, spec: SessionSpec, prompts: Sequence[str]) -> TranscriptState:
        """Where the turn with these prompts stands, read from the agent's own transcript, else from its mirror.

        Raises:
            ProviderError: a former program of the session does not end within 20 s.
        """
        from orchestrator.providers.claude.transcript.resume import recall

        return await recall(spec, prompts, self._transcripts)

    def models(self) -> Mapping[str, str]:
        """The aliases, each with what it means."""
        return MODELS

    def check_model(self, model: str) -> None:
        """Return if `model` is an alias or has the form of a Claude model's id, also Bedrock's and Vertex's.

        Raises:
            InvalidError: it has not.
        """
        if not is_model(model):
            raise InvalidError(
                f"no Claude model is called {model[:80]!r}",
                hint=f"valid: {', '.join(MODELS)}, or a full id such as claude-haiku-4-5",
            )

    def has_price(self, model: str | None) -> bool:
        """Whether the model's price is known."""
        return pricing.has_price(model)

    def tool_names(self) -> frozenset[str]:
        """The whole tools that a persona may name; those of older versions are accepted and give nothing."""
        return TOOLS

    def supervision(self) -> Tier:
        """How surely a session's processes end on this machine."""
        return self._tier
