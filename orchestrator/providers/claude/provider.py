"""The Claude provider: opens sessions of the `claude` program through claude-agent-sdk, which it imports lazily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.domain.transcript_state import TranscriptState
from orchestrator.errors import InvalidError
from orchestrator.providers import pricing
from orchestrator.providers.base import Session, SessionSpec, TranscriptStore
from orchestrator.providers.claude.catalog import MODEL_ALIASES, TOOL_NAMES, is_model
from orchestrator.providers.watchdog import SilenceLimits
from orchestrator.supervision.command import LaunchConfig
from orchestrator.supervision.hidden import HiddenPlace
from orchestrator.supervision.tiers import SHIM_TIER, Tier


class ClaudeProvider:
    """Opens Claude sessions; `cli` is the program, None for the one that ships with the SDK.

    `shim_dir` is a private directory for generated launchers. `tier` is how sessions are supervised; if it can hide
    files, sessions do not see the `hidden` directories, and each gets the `private` ones empty and for itself.
    `max_retries` bounds how often the program retries a failed model call (None: its own rule, 10 times in about three
    minutes). `transcripts` mirrors the conversations.
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
        hidden: tuple[HiddenPlace, ...] = (),
        private: tuple[str, ...] = (),
    ) -> None:
        self._launch = LaunchConfig(folder=shim_dir, tier=tier, hidden=hidden, private=private)
        self._cli = cli
        self._max_retries = max_retries
        self._limits = limits or SilenceLimits()
        self._transcripts = transcripts

    async def open(self, spec: SessionSpec) -> Session:
        """Return a session that is ready for `run`, within 60 s.

        A resumed conversation with a deferred call asks `decide` again immediately, before `run`.

        Raises:
            ProviderError: the program cannot start; the message holds its error output.
        """
        from orchestrator.providers.claude.program import ProgramConfig
        from orchestrator.providers.claude.start import open_session

        program = ProgramConfig(
            launch=self._launch,
            cli=self._cli,
            max_retries=self._max_retries,
            transcripts=self._transcripts,
        )
        return await open_session(spec, program, self._limits)

    async def recall(self, spec: SessionSpec, prompts: Sequence[str]) -> TranscriptState:
        """Read how far the turn with these prompts has come from the agent's own transcript, else from its mirror.

        Raises:
            ProviderError: a previous program of the session does not exit within 20 s.
        """
        from orchestrator.providers.claude.transcript.resume import recall

        return await recall(spec, prompts, self._transcripts)

    def models(self) -> Mapping[str, str]:
        """The model aliases, each with its meaning."""
        return MODEL_ALIASES

    def check_model(self, model: str) -> None:
        """Check that `model` is an alias or has the form of a Claude model's id (Anthropic, Bedrock or Vertex).

        Raises:
            InvalidError: it is neither.
        """
        if not is_model(model):
            raise InvalidError(
                f"no Claude model is called {model[:80]!r}",
                hint=f"valid: {', '.join(MODEL_ALIASES)}, or a full id such as claude-haiku-4-5",
            )

    def has_price(self, model: str | None) -> bool:
        """Whether the model's price is known."""
        return pricing.has_price(model)

    def tool_names(self) -> frozenset[str]:
        """The names of the tools that a persona may list; those of older versions are accepted and ignored."""
        return TOOL_NAMES

    def supervision(self) -> Tier:
        """The guarantee on this machine that a session's processes end, in words."""
        return self._launch.tier
