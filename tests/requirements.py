"""The ledger: every promise that Fleet was asked for, so that no sentence is forgotten and none is only claimed.

A test shows a promise by the mark `@pytest.mark.requirement("<id>")`; `test_requirements.py` fails if a promise has no
test or a mark names no promise. `deferred` says why a promise has no test yet. Sources: `SYSTEMS A`-`SYSTEMS D` are the
parts of the list of systems to cover, `issue N, item` a sentence of an issue, `safety G1`-`G12` a guarantee.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

NOBODY = "no open issue asks for it yet"


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One promise; `behaviour` is what a user can see, `deferred` why no test shows it yet."""

    id: str
    source: str
    behaviour: str
    deferred: str | None = None


def _of(source: str, behaviours: Mapping[str, str], *, deferred: str | None = None) -> Iterator[Requirement]:
    for key, behaviour in behaviours.items():
        yield Requirement(id=key, source=source, behaviour=behaviour, deferred=deferred)


_SYSTEMS_A = (
    *_of(
        "SYSTEMS A, CRUD",
        {
            "A-crud-create": "an agent is created with a name, a task, a model and a persona",
            "A-crud-status": "its status, its progress and the context it uses can be read",
            "A-crud-output": "its result and the files it consumed and produced can be read",
            "A-crud-update": "a new command to an existing agent keeps its context",
            "A-crud-delete": "one agent is deleted",
            "A-crud-delete-all": "all agents are deleted",
        },
    ),
    *_of("SYSTEMS A, CRUD", {"A-crud-max-tokens": "an agent's tokens can be capped at creation"}),
    *_of(
        "SYSTEMS A, sleep",
        {
            "A-sleep": "the orchestrator creates, commands, then sleeps without spending tokens",
            "A-wake": "it wakes when an agent completed, failed or asks, or when its own period is over",
            "A-digest": "it reads a bounded digest and never all of an agent's work",
        },
    ),
    *_of(
        "SYSTEMS A, scout-plan-build",
        {
            "A-spb-scouts": "N scouts search in parallel, each on the model that it was given",
            "A-spb-relevant-files": "their exact locations become one relevant-files.md",
            "A-spb-planner": "the planner reads only that file and produces detailed-plan.md",
            "A-spb-builder": "the builder implements the plan and runs the tests",
        },
    ),
    *_of(
        "SYSTEMS A, scout-plan-build",
        {
            "A-spb-vendors": "scouts run on Codex and Gemini beside Claude",
            "A-spb-docs": "the planner is given scraped documentation too",
        },
        deferred=NOBODY,
    ),
    *_of(
        "SYSTEMS A, plan-build-review-ship",
        {
            "A-board-columns": "a board has the columns PLAN, BUILD, REVIEW, SHIP",
            "A-board-card": "a card carries status, agent and artifacts",
            "A-board-gates": "a card passes a quality gate between columns",
            "A-board-review": "the reviewer checks against the plan and that the tests pass",
            "A-board-ship": "the shipper commits and pushes",
            "A-board-fail": "a failing builder loses nothing of the planner's work",
        },
        deferred=NOBODY,
    ),
    *_of(
        "SYSTEMS A, scout-build",
        {"A-scout-build": "two stages for small changes: a scout's report, handed to a builder"},
    ),
    *_of(
        "SYSTEMS A, slash commands",
        {
            "A-commands": "scout, plan-with-docs, build, their chains, create-agent, delete-all-agents exist",
        },
    ),
    *_of("SYSTEMS A, slash commands", {"A-commands-board": "the board has its slash command"}, deferred=NOBODY),
    *_of(
        "SYSTEMS A, sub-agent definition",
        {"A-orchestrator": "Claude Code gets an orchestrator agent with the fleet's tools and the sleep pattern"},
    ),
    *_of(
        "SYSTEMS A, context protection",
        {
            "A-context-orchestrator": "a whole job costs the orchestrator about a thousand tokens in calls and results",
            "A-context-planner": "what the planner reads is a fraction of what the scouts read",
            "A-context-temporary": "agents are single-purpose and can be deleted when done",
        },
    ),
    *_of(
        "SYSTEMS A, information flow",
        {"A-flow": "agents never talk to the user: their questions go to the orchestrator, and its answer back"},
    ),
    *_of(
        "SYSTEMS A, information flow",
        {"A-flow-permissions": "permission requests go to the orchestrator, or to a person in its client's form"},
    ),
    *_of(
        "SYSTEMS A, information flow",
        {"A-flow-dashboard": "questions and permission requests can be answered by a person at the dashboard"},
        deferred=NOBODY,
    ),
    *_of(
        "SYSTEMS A, visibility",
        {
            "A-see-agent": "name, id, status, context, model, cost, files and tool calls of an agent are shown",
            "A-see-fleet": "active agents, total context, total cost and who waits for whom are shown",
            "A-see-bottlenecks": "slow agents that block others are named",
            "A-see-live": "creations, tool calls, progress, completions and errors stream as they happen",
        },
    ),
)

_SYSTEMS_B = (
    *_of("SYSTEMS B", {"B-discovery": "agents and personas are found by name and by capability"}),
    *_of(
        "SYSTEMS B",
        {
            "B-registration": "a YAML playbook with metadata.agent is registered and stored",
            "B-invocation": "a playbook runs from the command line, through MCP and over HTTP",
            "B-state": "executions and steps have states, history and an audit trail",
            "B-communication": "agents exchange results and hand work off in one message schema",
            "B-steps": "http, python, shell, container, claude-agent, playbook, loops, conditions, templates run",
            "B-credentials": "a keychain; secrets never stand in playbooks, logs, events or transcripts",
            "B-memory": "agents read and write shared memory",
            "B-distributed": "server, workers, NATS, PostgreSQL and an HTTP gateway work together",
            "B-coordination": "playbooks coordinate agents that do not know each other",
        },
        deferred=NOBODY,
    ),
)

_SYSTEMS_C = (
    *_of(
        "SYSTEMS C",
        {
            "C-providers": "Claude and Codex stand behind one entry point",
            "C-manifest": "AgentManifest v1 loads; a bad one is rejected with the place and the reason",
            "C-edges": "event gates and conditions decide which edge is taken",
            "C-handoff": "a node's input is a stored hand-off payload and a fresh context snapshot",
            "C-provisioning": "worktrees and port ranges are allocated, injected, carved for children and cleaned up",
            "C-environment": "the documented AGENT_* names are read and injected",
            "C-mcp-config": "mcp.config.json gives shared servers, provider overrides and handlers",
            "C-clearance": "allow and ban lists are enforced where tools run",
        },
        deferred=NOBODY,
    ),
    *_of(
        "SYSTEMS C",
        {
            "C-recursion": "fan-out ends the parent's turn; fan-in starts a fresh one; a limit of 1 never deadlocks",
            "C-limits": "sessions, recursion depth, children and retries are limited",
        },
    ),
    *_of("SYSTEMS C, limits", {"C-max-concurrent": "AGENT_MAX_CONCURRENT limits the agents that work at once"}),
    *_of("SYSTEMS C, quality gate", {"C-verify": "one command verifies lint, types, tests and build"}),
)

_SYSTEMS_D = (
    *_of(
        "SYSTEMS D 1",
        {"D-wake": "one bounded wait on any or all agents, with a cursor and a digest that carries the results"},
    ),
    *_of("SYSTEMS D 1", {"D-wake-hosts": "the wake contract holds for every MCP host"}),
    *_of("SYSTEMS D 2", {"D-terminal": "exactly one terminal notice for every turn, crashes included"}),
    *_of("SYSTEMS D 3", {"D-checks": "acceptance checks run by Fleet decide whether a task is done"}),
    *_of("SYSTEMS D 3", {"D-receipts": "the result carries the diff stat and the changed files as Fleet's own facts"}),
    *_of("SYSTEMS D 4", {"D-budgets": "hard budgets pause at the cap and can be topped up"}),
    *_of("SYSTEMS D 5", {"D-price-tag": "an estimate before a fan-out, approval above a threshold"}, deferred=NOBODY),
    *_of(
        "SYSTEMS D 6",
        {"D-breaker": "one quota error parks every agent of that account until the reset"},
    ),
    *_of("SYSTEMS D 7", {"D-inbox": "one inbox for questions and permission requests of all agents"}),
    *_of("SYSTEMS D 8", {"D-monotone": "a child's clearance lies within its parent's"}),
    *_of("SYSTEMS D 9", {"D-undo": "every worktree is kept in a ref before it goes; restore_agent"}, deferred=NOBODY),
    *_of("SYSTEMS D 10", {"D-idempotent-create": "the same idempotency key creates one agent"}),
    *_of("SYSTEMS D 10", {"D-idempotent-command": "the same idempotency key queues one turn"}),
    *_of("SYSTEMS D 10", {"D-unknown": "an honest unknown state is reconciled within seconds"}),
    *_of("SYSTEMS D 11", {"D-progress": "last progress, files changed, tokens since, loops detected"}),
    *_of("SYSTEMS D 12", {"D-result": "a bounded digest, a paged result, artifacts kept"}),
    *_of("SYSTEMS D 12", {"D-result-schema": "output is checked against a schema"}),
    *_of("SYSTEMS D 13", {"D-steering": "queue, steer and interrupt with receipts, on every provider"}),
    *_of("SYSTEMS D 14", {"D-restart": "a whole tree restarts: nothing re-spawned, work resumed by id"}),
    *_of("SYSTEMS D 15", {"D-leases": "ports and database names are leased under real locks"}, deferred=NOBODY),
    *_of("SYSTEMS D 16", {"D-rehearsal": "a command runs against a scripted model before anybody pays for it"}),
    *_of("SYSTEMS D 16", {"D-rehearsal-playbook": "so does any playbook"}, deferred=NOBODY),
    *_of("SYSTEMS D 17", {"D-surface": "the tool surface costs a tenth of the peers': at most 1,200 tokens"}),
    *_of(
        "SYSTEMS D 18", {"D-waiting-free": "an agent that waits for an answer holds no process and survives restarts"}
    ),
    *_of("SYSTEMS D 18", {"D-waiting-all": "so does one that waits for anything else"}),
)

_ISSUE_3 = (
    *_of(
        "issue 3, skeleton",
        {
            "I3-tree": "ARCHITECTURE.md names what is on disk",
            "I3-package": "distribution agent-fleet, package orchestrator, command fleet, Python 3.11 or newer",
            "I3-pins": "constraints.txt pins everything exactly and names no registry",
            "I3-make": "demo, test, check and bench each set themselves up from nothing",
            "I3-files": "README, ARCHITECTURE, CONTRIBUTING, CHANGELOG, LICENSE, docs and plugin files exist",
            "I3-ledger": "every promise has a test and every mark a promise",
        },
    ),
    *_of(
        "issue 3, store",
        {
            "I3-store-tables": "agents, turns, events, artifacts and leases are rows",
            "I3-store-backup": "the database is copied before it is upgraded",
            "I3-store-newer": "a database of a newer Fleet is refused with what to do",
            "I3-store-event": "a state change and its event are committed together or not at all",
            "I3-store-group": "one writer commits many operations at once, and a failing one spoils no other",
            "I3-store-read": "readers go on while the writer writes",
        },
    ),
    *_of(
        "issue 3, daemon and door",
        {
            "I3-daemon-single": "one daemon per state directory, however many are started at once",
            "I3-daemon-private": "its sockets are open to their owner only",
            "I3-daemon-idle": "it ends by itself when idle, never while there is work or a question",
            "I3-daemon-log": "it logs JSON lines to a file in the state directory, without secrets",
            "I3-door-stdlib": "the door loads nothing but the standard library",
            "I3-door-starts": "the door starts the daemon if none runs",
            "I3-door-many": "many doors work at once",
            "I3-door-death": "a door's death harms no agent",
            "I3-door-build": "a daemon of another build is named with the command that replaces it",
            "I3-hello-project": "a door sees its own project's fleet unless it asks for all",
            "I3-hello-account": "an agent runs on the account and environment of the door that created it",
            "I3-hello-secret": "no key or token ever reaches the store or the log",
            "I3-hello-waits": "after a restart an agent waits for its account until a door brings it again",
        },
    ),
    *_of(
        "issue 3, MCP server",
        {
            "I3-mcp-eras": "the tools work in both protocol eras over the stdio door with the SDK's own client",
            "I3-mcp-table": "one table of tools, pinned by a snapshot",
            "I3-mcp-enforced": "a parameter stands in the schema only when it is enforced",
            "I3-mcp-short": "schemas are at most 1,200 tokens, instructions below 1 KB",
            "I3-mcp-lines": "results are compact text lines",
            "I3-mcp-steer": "an error says what failed, what is valid and what to do next",
            "I3-mcp-fence": "what an agent wrote is fenced as its data, never an instruction",
            "I3-mcp-progress": "wait_for_agents blocks and sends progress",
            "I3-inputs-chain": "an agent is queued until its inputs completed, then starts by itself",
            "I3-inputs-ended": "an input that ended before is handed over as it is",
            "I3-inputs-failed": "an input that fails meanwhile blocks the agent and wakes the orchestrator",
            "I3-inputs-cycle": "a cycle of inputs is an error",
            "I3-inputs-produces": "results are handed on in one file under the name that the persona declares",
            "I3-digest-facts": "the digest carries changed files and diff stat from git",
            "I3-digest-short": "the digest is at most 400 tokens, cut between lines, and says what it cut",
            "I3-digest-once": "an outcome that was delivered does not wake again",
        },
    ),
    *_of(
        "issue 3, Claude provider",
        {
            "I3-turns-order": "turns of one agent run in order, one at a time",
            "I3-events": "every message and tool call is an event",
            "I3-artifacts": "files consumed and produced come from the tools themselves",
            "I3-usage": "context, tokens and cost come from usage figures; unknown stays unknown",
            "I3-hibernate": "an idle agent holds no process",
            "I3-resume": "the next command resumes its session by id",
            "I3-interrupt": "a running turn can be interrupted",
            "I3-max-turns": "max_turns ends a turn as failed, with the reason",
            "I3-model": "the model that was asked for is the one that is called",
            "I3-persona-prompt": "an agent gets its persona's prompt and the project's instructions as text",
            "I3-persona-tools": "an agent has the whole tools of its persona and no others",
            "I3-persona-user": "personas of the user's .claude/agents can be used",
            "I3-slots": "a finite number of agents work at once; the others are queued",
            "I3-crew-progress": "an agent reports progress with a crew tool",
            "I3-ask-defers": "ask_orchestrator ends the turn as waiting and closes the process",
            "I3-ask-survives": "the answer resumes the same tool call after the daemon was killed",
            "I3-verbatim": "a task is sent verbatim, never expanded as a command",
            "I3-no-background": "an agent cannot leave work in the background",
            "I3-hook-closed": "a gate that fails lets no tool run",
            "I3-gate-seen": "every tool call is asked for, nothing prompts and no refusal is unseen",
            "I3-session-id": "the session id is chosen before any process exists",
            "I3-big-message": "a tool result of many megabytes does not end the session",
            "I3-false-success": "a failure that comes as success is a failure",
            "I3-cost-total": "a session's running cost total is not counted twice",
        },
    ),
    *_of(
        "issue 3, rehearsal endpoint",
        {
            "I3-rehearse-wire": "it streams text, tool calls and usage in the Anthropic format, and counts tokens",
            "I3-rehearse-parts": "a part is chosen by header, else by system prompt or model",
            "I3-rehearse-templates": "templates reach the task and all earlier tool results by name; filters; for_each",
            "I3-rehearse-faults": "it plays faults: statuses, cut streams, silence",
            "I3-rehearse-unmatched": "an unmatched request names the script and what it could have matched",
            "I3-rehearse-bad": "a bad script is refused with the line and the reason",
        },
    ),
    *_of(
        "issue 3, plugin",
        {
            "I3-plugin-valid": "claude plugin validate --strict passes",
            "I3-plugin-names": "orchestrator and slash commands use the tools' full plugin names",
            "I3-plugin-personas": "scout, planner, builder, reviewer and shipper are personas and sub-agents",
            "I3-plugin-commands": "the eight slash commands exist",
            "I3-plugin-launcher": "without an installation the launcher still answers, with what to run",
            "I3-plugin-hook": "the plugin's hook approves Fleet's own tools and nothing else",
        },
    ),
    *_of(
        "issue 3, commands",
        {
            "I3-cli-ps": "fleet ps lists the agents",
            "I3-cli-show": "fleet show tells all about one agent",
            "I3-cli-logs": "fleet logs -f follows an agent's events",
            "I3-cli-output": "fleet output pages through a result",
            "I3-cli-verbs": "fleet create, command, answer, wait, interrupt and rm do what the tools do",
            "I3-cli-up": "fleet up starts the daemon, fleet down ends it",
            "I3-cli-down": "fleet down refuses while agents work, --interrupt loses nothing",
            "I3-cli-doctor": "fleet doctor says what is missing and what to do",
            "I3-cli-rehearse": "fleet rehearse runs against a script, in a state directory of its own",
            "I3-cli-json": "--json everywhere",
            "I3-cli-exit": "exit codes 0, 1, 2, 3, 4, 5 and 130 mean what the README says",
            "I3-cli-colour": "NO_COLOR is honoured",
            "I3-cli-light": "fleet --help loads no vendor SDK",
        },
    ),
    *_of(
        "issue 3, the main job",
        {
            "I3-demo-repository": "the example has 8 files, 12 places, an alias, a look-alike and tests that pass",
            "I3-demo-keyless": "the demo needs no key and no network",
            "I3-demo-plugin": "the real claude runs the slash command through the plugin, without a permission flag",
            "I3-demo-scouts": "four scouts in parallel report exact locations that are in the repository",
            "I3-demo-builder": "the builder edits the shared checkout and runs the repository's tests",
            "I3-demo-chain": "the orchestrator creates the whole chain in one message",
            "I3-demo-question": "it is asked one question on the way and answers it",
            "I3-demo-delete": "it reports and deletes the agents",
            "I3-demo-phases": "a variant works phase by phase",
            "I3-demo-report": "the demo shows diff, tests, status lines, tokens, cost as rehearsal, and where to look",
            "I3-demo-random": "the same script migrates repositories of random names and shapes, look-alikes untouched",
            "I3-demo-sub-agent": "claude --agent fleet:orchestrator does the job too",
            "I3-demo-login": "a login file of the user's own configuration reaches the endpoint",
            "I3-demo-token": "a token variable of the user reaches the endpoint",
        },
    ),
    *_of(
        "issue 3, bad input",
        {
            "I3-bad-agent": "an unknown agent is not found, with who there is",
            "I3-bad-persona": "an unknown persona is not found, with those there are",
            "I3-bad-model": "an unknown model alias is refused with the valid ones",
            "I3-bad-tool": "an unknown tool is answered with those there are",
            "I3-bad-persona-tool": "a persona that names an unknown tool is refused",
            "I3-bad-name": "a name already taken shows who holds it",
            "I3-bad-empty-task": "an empty task is refused",
            "I3-bad-long-task": "a task of 1 MB is refused with the limit",
            "I3-bad-nul": "a NUL is refused with its place",
            "I3-bad-unicode": "odd unicode arrives as it was sent, what is not valid Unicode is refused",
            "I3-bad-cwd-missing": "a cwd that is missing is refused",
            "I3-bad-cwd-file": "a cwd that is a file is refused",
            "I3-bad-cwd-outside": "a cwd outside the project is refused",
            "I3-bad-limit": "negative and huge limits are refused with the valid range",
            "I3-bad-deleted": "a command to a deleted agent is an error that says what to do",
            "I3-bad-offset": "an offset beyond the end is an error that names the length",
            "I3-bad-twice": "two creates with one idempotency key give one agent",
            "I3-bad-json": "malformed JSON-RPC is answered as such, and the next line works",
            "I3-bad-binary-missing": "a missing claude binary fails the turn with what to install",
            "I3-bad-binary-killed": "a killed claude fails the turn with the child's own last line",
            "I3-bad-401": "401 fails at once with what to do",
            "I3-bad-429": "429 ends in a typed state",
            "I3-bad-500": "500 ends in a typed state",
            "I3-bad-529": "529 ends in a typed state",
            "I3-bad-refused": "a refused connection ends in a typed state",
            "I3-bad-cut": "a cut stream ends in a typed state",
            "I3-bad-silence": "silence ends in a typed state within a bounded time",
        },
    ),
    *_of(
        "issue 3, done when",
        {
            "I3-done-clone": "make demo and make test pass in a clean clone with an empty HOME; CI runs them",
            "I3-done-journey": "the journey asserts on files, git diff, store rows and the orchestrator's transcript",
            "I3-done-bench": "bench shows tokens, wake, door start, overhead and memory, and so does the README",
            "I3-done-check": "import contracts, types and lint are part of make check",
            "I3-done-docs": "every tool, command, setting, error and status is documented",
            "I3-done-style": "files and functions are small, names mean something, no address, no machine's path",
        },
    ),
)

_ISSUE_4 = tuple(
    requirement
    for source, behaviours in {
        "issue 4, recovery": {
            "I4-recover-unknown": "the reason unknown is resolved within seconds",
        },
        "issue 4, admission": {
            "I4-limits": "sessions, depth, children, retries and priorities are counted in the claiming transaction",
            "I4-children": "a persona that may creates children with deterministic ids; fan-out ends the parent's turn",
            "I4-tree": "a tree of 40 nodes with a limit of 1 ends, with a kill in the middle",
            "I4-abort": "aborting a parent reaches the whole subtree",
        },
        "issue 4, budgets": {
            "I4-budget-caps": "agent, subtree and fleet have caps in USD, tokens, turns and seconds",
            "I4-budget-pause": "at the cap an agent pauses and goes on after a top-up",
            "I4-budget-price": "each model's price has a source and a date; unknown prices are said to be unknown",
        },
        "issue 4, quota": {
            "I4-quota-park": "a terminal quota error parks the account's agents and resumes them staggered",
            "I4-quota-retry": "overload retries with jitter, 401 fails at once",
        },
        "issue 4, status": {
            "I4-status-faults": "each row of the fault table ends in the right state within its bound",
            "I4-status-retrying": "retries of the API show as retrying(n)",
            "I4-status-evidence": "progress and loops are evidence; nothing is killed on suspicion",
        },
        "issue 4, faults": {
            "I4-fault-store": "full disk, locked database, corrupt WAL, newer schema and read-only HOME are survived",
            "I4-fault-clock": "clock jumps, SIGSTOP, stale sockets and two daemons at once are survived",
            "I4-fault-stop": "a stop that was asked for outlives the daemon and every race",
            "I4-machine": "a state machine drives all verbs against a pure model",
        },
        "issue 4, done when": {
            "I4-bench": "bench shows wake p50 and p99, answer-to-resumed, restart-to-resumed, turns per second",
        },
        "safety": {
            "G1": "a command that returned OK is in the database after any crash",
            "G2": "the same idempotency key never runs twice",
            "G5": "working is never reported beyond its stated age; unknown says so, with the reason",
            "G6": "every turn ends in exactly one terminal state, and an error is never shown as success",
            "G7": "a restart with N agents is ready within 5 s + 20 ms x N",
            "G10": "spending exceeds a cap by at most one model call per live agent",
            "G12": "bad input is answered in one sentence within 1 s and grows no memory",
        },
    }.items()
    for requirement in _of(source, behaviours)
)

_INBOX = (
    *_of(
        "issue 4, inbox",
        {
            "I4-inbox-rows": "questions and permission requests are rows with a deadline and a default",
            "I4-inbox-ways": "they are answered by command_agent, fleet answer, HTTP or a persona's policy",
            "I4-inbox-gate": "every call that no rule decides is asked: allow, deny with a reason, allow always",
            "I4-inbox-news": "a new orchestrator session is told of open questions and unread outcomes",
        },
    ),
    *_of("issue 4, steering", {"I4-steer": "command_agent steers a running turn, with a receipt"}),
)

_RECOVERY = (
    *_of(
        "issue 4, recovery",
        {
            "I4-recover-start": "rows are reconciled with reality at start",
            "I4-recover-transcript": "take-over reads the transcript first; a stale epoch is refused",
            "I4-recover-elsewhere": "a session resumes in a fresh HOME and another cwd",
            "I4-recover-late": "late results are accepted and every turn has one terminal event",
            "I4-door-reconnect": "the door reconnects through a daemon's restart; the orchestrator sees a delay only",
            "I4-retention": "rows that nobody will ask for again go after 30 days; agents, results and events stay",
            "I4-recover-loop": "a crash-looping turn fails with its history after max_resumes",
        },
    ),
    *_of(
        "issue 4, faults",
        {
            "I4-chaos": "make chaos kills at random and counts 0 lost, 0 double, 0 left, 0 untrue",
            "I4-fault-many": "32 agents at once on 2 cores",
        },
    ),
    *_of("safety", {"G3": "at most one live session per agent, at every instant"}),
)

_TASKS = (
    *_of(
        "issue 4, tasks",
        {
            "I4-http": "MCP over Streamable HTTP on loopback, with token, Host and Origin checks",
            "I4-tasks": "wait_for_agents answers with a durable task where the client declares it",
            "I4-tasks-verbs": "tasks/get, update and cancel survive door and daemon restarts",
            "I4-tasks-name": "Mcp-Name is checked against the task id",
            "I4-tasks-hosts": "each row of the host table is a test with the real client",
            "I4-tasks-input": "input_required is answered in the form of the person's terminal",
            "I4-conformance": "the MCP conformance suite passes on both wires with a committed baseline",
            "I4-guarantees": "the guarantees stand in the docs with bounds and tests, and what is unverified",
            "I4-store-contract": "the mirror of a conversation keeps the contracts of the vendor's session stores",
        },
    ),
    *_of("safety", {"G11": "no local web page and no other user can call a tool"}),
)

_RUN = (
    *_of(
        "issue 4, ways in",
        {
            "I4-run": "fleet run starts the orchestrator itself and streams what the fleet does",
            "I4-run-demo": "the demo runs either way",
        },
    ),
    *_of("issue 4, tasks", {"I4-run-defer": "an orchestrator that Fleet runs sleeps without a process"}),
)

_PROCESSES = (
    *_of(
        "issue 4, processes",
        {
            "I4-reap": "7 kinds of leavers die with stop, delete and kill -9 of daemon, CLI and shim",
            "I4-reap-tier": "the supervision tier is shown in status and fleet doctor",
            "I4-reap-orphans": "orphans of a former daemon die at start by pid and start time",
            "I4-reap-throttle": "spawning happens on the event loop's thread and is throttled",
            "I4-self": "an agent cannot be its own orchestrator",
        },
    ),
    *_of("safety", {"G4": "after delete, stop or the daemon's death no process of an agent is alive after 10 s"}),
)

_CHECKS = tuple(
    _of(
        "issue 4, checks",
        {
            "I4-checks": "command, file and schema checks run after the turn in the agent's own supervision",
            "I4-checks-retry": "a failed check goes back to the agent up to n times, then fails with receipts",
            "I4-checks-told": "each check's verdict stands in the digest, and the receipts in show, JSON and REST",
            "I4-checks-ways": "checks are given with the tools, HTTP and the command line; bad ones are refused",
            "I4-checks-status": "the status says what is being checked, and a stop ends the check",
            "I4-checks-recover": "a daemon killed in the middle of a check loses nothing",
            "I4-verdict": "personas with a verdict gate what is behind them",
        },
    )
)

_ISOLATION = tuple(
    _of(
        "safety",
        {
            "G8": "no agent reads a file, secret or agent outside its clearance",
            "G9": "git, templates and file reads of the daemon never run bytes that an agent wrote",
        },
        deferred=NOBODY,
    )
)

_FAMILIES = tuple(
    _of(
        "issue 4, admission",
        {"I4-children-plan": "a plan returned by a schema fans out, also for providers that take no tools of ours"},
    )
)

REQUIREMENTS = (
    *_SYSTEMS_A,
    *_SYSTEMS_B,
    *_SYSTEMS_C,
    *_SYSTEMS_D,
    *_ISSUE_3,
    *_ISSUE_4,
    *_INBOX,
    *_RECOVERY,
    *_TASKS,
    *_RUN,
    *_PROCESSES,
    *_FAMILIES,
    *_CHECKS,
    *_ISOLATION,
)
