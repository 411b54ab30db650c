"""The first schema"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KINDS = {
    "s": sa.String(),
    "i": sa.Integer(),
    "f": sa.Float(),
    "b": sa.Boolean(),
    "j": sa.JSON(),
    "n": sa.JSON(none_as_null=True),
}

# Of each table its columns: `name:kind`, with `?` if NULL may stand in it.
AGENT = (
    "id:s name:s project:s orchestrator:s call_key:s? created_at:f deleted_at:f? persona:s persona_body:j "
    "provider:s model:s? task:s cwd:s checkout:s writes:b max_turns:i? rehearsal:b root:s parent:s? depth:i "
    "child_index:i? children:i priority:i checks:n? check_retries:i? account:s account_public:j environment:j "
    "status:s reason:s changed_at:f "
    "owner:s? epoch:i last_seq:i turns:i pending:n? delivered_turn:i ended_cursor:i session_id:s session_started:b "
    "session_cost_usd:f? progress:s last_tool:s last_event_at:f? progress_at:f? progress_tokens:i tool_at:f? "
    "tool_tokens:i open_tools:i same_calls:i tool_calls:i context_tokens:i? context_window_tokens:i? tokens:i "
    "cost_usd:f cost_unknown:b live_tokens:i live_cost_usd:f begun_turns:i worked_seconds:f running_since:f? "
    "wake_at:f?"
)

BREAKER = "account:s provider:s until:f tries:i detail:s"

BUDGET = "subject:s scope:s unit:s cap:f setting:f?"

ARTIFACT = "agent_id:s turn:i kind:s path:s at:f"

COMMAND = "key:s agent_id:s turn_id:s? happened:s at:f"

EVENT = "id:i agent_id:s seq:i turn:i? kind:s at:f body:j"

INPUT = "agent_id:s turn:i position:i source_id:s settled:b blocked:b"

LEASE = "id:i kind:s name:s agent_id:s acquired_at:f released_at:f?"

PROCESS = "marker:s agent_id:s epoch:i tier:s boot:s intended_at:f pid:i? started:s cgroup:s started_at:f? ended_at:f?"

QUESTION = (
    "id:s agent_id:s turn:i kind:s call_id:s tool:s input:j text:s options:j asked_at:f deadline_at:f? fallback:s "
    "state:s answer:s? answered_at:f? answered_by:s?"
)

TRANSCRIPT = "agent_id:s subpath:s seq:i uuid:s? body:s"

TURN = (
    "id:s agent_id:s ordinal:i urgent:i status:s parked:s stop:s heard:b resumes:i overloads:i prompt:s reason:s "
    "detail:s hint:s result:s created_at:f started_at:f? ended_at:f? epoch:i attempts:i prompts:n? losses:n? checks:n? checked:n? "
    "input_tokens:i output_tokens:i cache_read_tokens:i cache_write_tokens:i model_calls:i cost_usd:f "
    "cost_unknown:b before:n? changes:n? changes_unknown:s"
)

SLEEP = (
    "id:s project:s orchestrator:s call_key:s? agents:j until:s since:s? asks_person:b status:s created_at:f "
    "updated_at:f deadline:f? expires_at:f result:s is_error:b outcomes:j question_id:s?"
)


def upgrade() -> None:
    _create_agent()
    _create_breaker()
    _create_budget()
    _create_artifact()
    _create_command()
    _create_event()
    _create_input()
    _create_lease()
    _create_process()
    _create_question()
    _create_transcript()
    _create_turn()
    _create_sleep()


def _columns(table: str) -> Iterator[sa.Column]:
    for column in table.split():
        name, _, kind = column.partition(":")
        yield sa.Column(name, KINDS[kind.rstrip("?")], nullable=kind.endswith("?"))


def _create_agent() -> None:
    op.create_table(
        "agent",
        *_columns(AGENT),
        sa.ForeignKeyConstraint(["parent"], ["agent.id"], name=op.f("fk_agent_parent")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_agent")),
        sa.UniqueConstraint("call_key", name=op.f("uq_agent_call_key")),
    )
    with op.batch_alter_table("agent", schema=None) as batch_op:
        batch_op.create_index("ix_agent_orchestrator", ["project", "orchestrator"], unique=False)
        batch_op.create_index(batch_op.f("ix_agent_parent"), ["parent"], unique=False)
        batch_op.create_index(batch_op.f("ix_agent_root"), ["root"], unique=False)
        batch_op.create_index("ix_agent_status", ["status", "created_at"], unique=False)
        batch_op.create_index(
            "uq_agent_live_name", ["project", "name"], unique=True, sqlite_where=sa.text("deleted_at IS NULL")
        )


def _create_breaker() -> None:
    op.create_table(
        "breaker",
        *_columns(BREAKER),
        sa.PrimaryKeyConstraint("account", "provider", name=op.f("pk_breaker")),
    )


def _create_budget() -> None:
    op.create_table(
        "budget",
        *_columns(BUDGET),
        sa.PrimaryKeyConstraint("subject", "scope", "unit", name=op.f("pk_budget")),
    )


def _create_artifact() -> None:
    op.create_table(
        "artifact",
        *_columns(ARTIFACT),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_artifact_agent_id")),
        sa.PrimaryKeyConstraint("agent_id", "turn", "kind", "path", name=op.f("pk_artifact")),
    )


def _create_command() -> None:
    op.create_table(
        "command",
        *_columns(COMMAND),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_command_agent_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_command")),
    )


def _create_event() -> None:
    op.create_table(
        "event",
        *_columns(EVENT),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_event_agent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
        sa.UniqueConstraint("agent_id", "seq", name=op.f("uq_event_agent_id_seq")),
        sqlite_autoincrement=True,
    )


def _create_input() -> None:
    op.create_table(
        "input",
        *_columns(INPUT),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_input_agent_id")),
        sa.ForeignKeyConstraint(["source_id"], ["agent.id"], name=op.f("fk_input_source_id")),
        sa.PrimaryKeyConstraint("agent_id", "turn", "position", name=op.f("pk_input")),
    )
    with op.batch_alter_table("input", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_input_source_id"), ["source_id"], unique=False)


def _create_lease() -> None:
    op.create_table(
        "lease",
        *_columns(LEASE),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_lease_agent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease")),
    )
    with op.batch_alter_table("lease", schema=None) as batch_op:
        batch_op.create_index("ix_lease_agent", ["agent_id"], unique=False)
        batch_op.create_index(
            "uq_lease_held", ["kind", "name"], unique=True, sqlite_where=sa.text("released_at IS NULL")
        )


def _create_process() -> None:
    op.create_table(
        "process",
        *_columns(PROCESS),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_process_agent_id")),
        sa.PrimaryKeyConstraint("marker", name=op.f("pk_process")),
    )
    with op.batch_alter_table("process", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_process_agent_id"), ["agent_id"], unique=False)
        batch_op.create_index("ix_process_open", ["ended_at"], unique=False)


def _create_question() -> None:
    op.create_table(
        "question",
        *_columns(QUESTION),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_question_agent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_question")),
    )
    with op.batch_alter_table("question", schema=None) as batch_op:
        batch_op.create_index("ix_question_call", ["agent_id", "call_id"], unique=False)
        batch_op.create_index("ix_question_deadline", ["state", "deadline_at"], unique=False)
        batch_op.create_index("uq_question_open", ["agent_id"], unique=True, sqlite_where=sa.text("state = 'open'"))


def _create_transcript() -> None:
    op.create_table(
        "transcript",
        *_columns(TRANSCRIPT),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_transcript_agent_id")),
        sa.PrimaryKeyConstraint("agent_id", "subpath", "seq", name=op.f("pk_transcript")),
        sa.UniqueConstraint("agent_id", "subpath", "uuid", name=op.f("uq_transcript_agent_id_subpath_uuid")),
    )


def _create_turn() -> None:
    op.create_table(
        "turn",
        *_columns(TURN),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name=op.f("fk_turn_agent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_turn")),
        sa.UniqueConstraint("agent_id", "ordinal", name=op.f("uq_turn_agent_id_ordinal")),
    )
    with op.batch_alter_table("turn", schema=None) as batch_op:
        batch_op.create_index("ix_turn_open", ["agent_id", "status"], unique=False)


def _create_sleep() -> None:
    op.create_table(
        "sleep",
        *_columns(SLEEP),
        sa.ForeignKeyConstraint(["question_id"], ["question.id"], name=op.f("fk_sleep_question_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sleep")),
        sa.UniqueConstraint("call_key", name=op.f("uq_sleep_call_key")),
    )
    with op.batch_alter_table("sleep", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sleep_question_id"), ["question_id"], unique=False)
        batch_op.create_index("ix_sleep_status", ["status"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
