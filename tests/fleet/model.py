"""A small pure model of a fleet: open turns, who waits for whom, and the effect of commands."""

from __future__ import annotations

from dataclasses import dataclass, field


class RefusedError(Exception):
    """The fleet must refuse this."""


@dataclass
class ModelTurn:
    """A turn; `inputs` says of each source whether it is open, settled or blocked."""

    ordinal: int
    urgency: int
    """0: in order, 1: meant for a running turn, 2: replaces one"""
    inputs: dict[str, str]


@dataclass
class ModelAgent:
    """An agent; `state` is of its active turn: none, working, waiting, paused or answered (or to be taken up again)."""

    name: str
    writes: bool
    queue: list[ModelTurn] = field(default_factory=list[ModelTurn])
    active: ModelTurn | None = None
    state: str = "none"
    asks: str = "question"
    """what it waits with: question or permission"""
    granted: bool = False
    """its permission was given for good"""
    handed: list[int] = field(default_factory=list[int])
    """ordinals of the turns that were steered into the running one"""
    turns: int = 0
    ends: dict[int, str] = field(default_factory=dict[int, str])
    last: str = "idle"
    deleted: bool = False

    @property
    def is_open(self) -> bool:
        """Whether a turn is under way or will be."""
        return not self.deleted and (self.active is not None or bool(self.queue))

    @property
    def next(self) -> ModelTurn:
        """The turn that runs next."""
        return min(self.queue, key=lambda turn: (-turn.urgency, turn.ordinal))

    @property
    def status(self) -> str:
        """The status that the fleet must show."""
        if self.deleted:
            return "deleted"
        if self.state in {"working", "waiting", "paused"}:
            return "waiting" if self.state == "paused" else self.state
        return "queued" if self.is_open else self.last


@dataclass
class Model:
    """The fleet as it must be."""

    agents: dict[str, ModelAgent] = field(default_factory=dict[str, ModelAgent])

    def create(self, name: str, *, writes: bool, inputs: list[str]) -> None:
        """A new agent with its first turn."""
        self.agents[name] = ModelAgent(name, writes)
        self._append(self.agents[name], self._inputs(self.agents[name], 1, inputs), 0)

    def answer(self, name: str, text: str) -> None:
        """What an answer means; only some words decide on a permission."""
        agent = self.agents[name]
        if agent.state != "waiting":
            raise RefusedError
        if agent.asks == "permission" and text != "always" and not text.startswith(("allow", "deny: ")):
            raise RefusedError
        agent.granted |= agent.asks == "permission" and text == "always"
        agent.state = "answered"

    def command(self, name: str, text: str, *, mode: str, inputs: list[str] | None) -> None:
        """What a command means, by what the agent does."""
        agent, urgent = self.agents[name], mode == "interrupt"
        if agent.deleted:
            raise RefusedError
        if agent.state == "waiting" and not urgent:
            self.answer(name, text)
            return
        if agent.state == "none" and agent.queue:
            if inputs is not None:
                agent.next.inputs = self._inputs(agent, agent.next.ordinal, inputs)
            return
        checked = self._inputs(agent, agent.turns + 1, inputs or [])
        if urgent and agent.state in {"waiting", "working", "paused"}:
            running = agent.state == "working"
            if not running:
                self.end_active(name, "interrupted")
            self._append(agent, checked, 2)
            if running:
                self.end_active(name, "interrupted")
            return
        steered = mode == "steer" and agent.state == "working" and inputs is None
        self._append(agent, checked, 2 if urgent else int(steered))
        if steered:
            agent.handed.append(agent.turns)

    def _append(self, agent: ModelAgent, inputs: dict[str, str], urgency: int) -> None:
        agent.turns += 1
        agent.queue.append(ModelTurn(agent.turns, urgency, inputs))
        self._set(agent.name, {"blocked": "open"})

    def _inputs(self, agent: ModelAgent, ordinal: int, sources: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in sources:
            if source == agent.name:
                if ordinal == 1:
                    raise RefusedError
                found[source] = "settled"
                continue
            is_open = self.agents[source].is_open
            if is_open and agent.name in self._waited_for(source):
                raise RefusedError
            found[source] = "open" if is_open else "settled"
        return found

    def _waited_for(self, name: str) -> set[str]:
        seen: set[str] = set()
        ahead = [name]
        while ahead:
            one = ahead.pop()
            if one not in seen:
                seen.add(one)
                turns = self.agents[one].queue
                ahead += [source for turn in turns for source, state in turn.inputs.items() if state != "settled"]
        return seen

    def _set(self, source: str, states: dict[str, str]) -> None:
        for agent in self.agents.values():
            for turn in agent.queue:
                if source in turn.inputs:
                    turn.inputs[source] = states.get(turn.inputs[source], turn.inputs[source])

    def _ended(self, name: str, how: str) -> None:
        self.agents[name].last = how
        after = "settled" if how == "complete" else "blocked"
        self._set(name, {"open": after, "blocked": after})

    def end_active(self, name: str, how: str) -> None:
        """The active turn has ended; unless another is queued, so has the agent."""
        agent = self.agents[name]
        assert agent.active is not None
        if how == "complete":  # its model has read what was handed in
            agent.ends |= dict.fromkeys(agent.handed, "cancelled")
            agent.queue = [turn for turn in agent.queue if turn.ordinal not in agent.handed]
        agent.handed = []
        agent.ends[agent.active.ordinal] = how
        agent.active, agent.state = None, "none"
        if not agent.queue:
            self._ended(name, how)

    def interrupt(self, name: str) -> None:
        """A turn that has begun ends, else the next one does; those behind it stay."""
        agent = self.agents[name]
        if agent.deleted or not agent.is_open:
            raise RefusedError
        if agent.active is not None:
            self.end_active(name, "interrupted")
            return
        turn = agent.next
        agent.queue.remove(turn)
        agent.ends[turn.ordinal] = "cancelled"
        if not agent.queue:
            self._ended(name, "interrupted")

    def _end_all(self, agent: ModelAgent) -> None:
        if agent.active is not None:
            agent.ends[agent.active.ordinal] = "interrupted"
        for turn in agent.queue:
            agent.ends[turn.ordinal] = "cancelled"
        agent.active, agent.state = None, "none"
        agent.queue.clear()

    def delete(self, name: str) -> None:
        """Everything open ends; those behind it are blocked."""
        agent = self.agents[name]
        if not agent.deleted:
            self._end_all(agent)
            agent.deleted = True
            self._ended(name, "deleted")

    def ask(self, name: str, what: str) -> None:
        """A working agent asks; what was granted for good needs no answer."""
        agent = self.agents[name]
        if not (what == "permission" and agent.granted):
            agent.state, agent.asks, agent.handed = "waiting", what, []

    def lose(self, name: str) -> None:
        """The session of a working agent dies: its turn is taken up again, unless another was to replace it."""
        agent = self.agents[name]
        if any(turn.urgency == 2 for turn in agent.queue):
            self.end_active(name, "interrupted")
        else:
            agent.state, agent.handed = "answered", []

    def pause(self, name: str) -> None:
        """The turn of a working agent is put aside until its time comes."""
        self.agents[name].state, self.agents[name].handed = "paused", []

    def time_comes(self) -> None:
        """Whoever was put aside goes on."""
        for agent in self.agents.values():
            if agent.state == "paused":
                agent.state = "answered"

    def stop(self, *, interrupts: bool) -> None:
        """The daemon ends: what runs is interrupted if that was asked for, else taken up again unless replaced."""
        for agent in self.agents.values():
            if agent.state != "working":
                continue
            if interrupts:
                self.end_active(agent.name, "interrupted")
            else:
                self.lose(agent.name)

    def admit(self, name: str) -> None:
        """The fleet started this agent; it must have been right."""
        agent = self.agents[name]
        if agent.state == "answered":
            agent.state = "working"
            return
        assert agent.state == "none", f"{name} was started while {agent.state}"
        assert agent.queue, f"{name} was started with nothing to do"
        turn = agent.next
        assert set(turn.inputs.values()) <= {"settled"}, f"{name} was started before its inputs: {turn.inputs}"
        agent.queue.remove(turn)
        agent.active, agent.state = turn, "working"

    def could_run(self, name: str) -> bool:
        """Whether nothing but a slot is missing."""
        agent = self.agents[name]
        if agent.status != "queued":
            return False
        writers = [one for one in self.agents.values() if one.writes and one.active is not None and one is not agent]
        ready = agent.state == "answered" or set(agent.next.inputs.values()) <= {"settled"}
        return ready and not (agent.writes and writers)
