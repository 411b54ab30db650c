"""The first schema"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Of each table its columns: name, type, and whether NULL may stand in it.
AGENT = (
    ("id", sa.String(), False),
    ("name", sa.String(), False),
    ("project", sa.String(), False),
    ("orchestrator", sa.String(), False),
    ("call_key", sa.String(), True),
    ("created_at", sa.Float(), False),
    ("deleted_at", sa.Float(), True),
    ("persona", sa.String(), False),
    ("persona_body", sa.JSON(), False),
    ("provider", sa.String(), False),
    ("model", sa.String(), True),
    ("task", sa.String(), False),
    ("cwd", sa.String(), False),
    ("checkout", sa.String(), False),
    ("writes", sa.Boolean(), False),
    ("max_turns", sa.Integer(), True),
    ("rehearsal", sa.Boolean(), False),
    ("root", sa.String(), False),
    ("parent", sa.String(), True),
    ("depth", sa.Integer(), False),
    ("child_index", sa.Integer(), True),
    ("children", sa.Integer(), False),
    ("priority", sa.Integer(), False),
    ("account", sa.String(), False),
    ("account_public", sa.JSON(), False),
    ("environment", sa.JSON(), False),
    ("status", sa.String(), False),
    ("reason", sa.String(), False),
    ("changed_at", sa.Float(), False),
    ("owner", sa.String(), True),
    ("epoch", sa.Integer(), False),
    ("last_seq", sa.Integer(), False),
    ("turns", sa.Integer(), False),
    ("pending", sa.JSON(none_as_null=True), True),
    ("delivered_turn", sa.Integer(), False),
    ("ended_cursor", sa.Integer(), False),
    ("session_id", sa.String(), False),
    ("session_started", sa.Boolean(), False),
    ("session_cost_usd", sa.Float(), True),
    ("progress", sa.String(), False),
    ("last_tool", sa.String(), False),
    ("last_event_at", sa.Float(), True),
    ("progress_at", sa.Float(), True),
    ("progress_tokens", sa.Integer(), False),
    ("tool_at", sa.Float(), True),
    ("tool_tokens", sa.Integer(), False),
    ("open_tools", sa.Integer(), False),
    ("same_calls", sa.Integer(), False),
    ("tool_calls", sa.Integer(), False),
    ("context_tokens", sa.Integer(), True),
    ("context_window_tokens", sa.Integer(), True),
    ("tokens", sa.Integer(), False),
    ("cost_usd", sa.Float(), False),
    ("cost_unknown", sa.Boolean(), False),
    ("live_tokens", sa.Integer(), False),
    ("live_cost_usd", sa.Float(), False),
    ("begun_turns", sa.Integer(), False),
    ("worked_seconds", sa.Float(), False),
    ("running_since", sa.Float(), True),
    ("wake_at", sa.Float(), True),
)

BREAKER = (
    ("account", sa.String(), False),
    ("provider", sa.String(), False),
    ("until", sa.Float(), False),
    ("tries", sa.Integer(), False),
    ("detail", sa.String(), False),
)

BUDGET = (
    ("subject", sa.String(), False),
    ("scope", sa.String(), False),
    ("unit", sa.String(), False),
    ("cap", sa.Float(), False),
    ("setting", sa.Float(), True),
)

SLEEP = (
    ("id", sa.String(), False),
    ("project", sa.String(), False),
    ("orchestrator", sa.String(), False),
    ("call_key", sa.String(), True),
    ("agents", sa.JSON(), False),
    ("until", sa.String(), False),
    ("since", sa.String(), True),
    ("asks_person", sa.Boolean(), False),
    ("status", sa.String(), False),
    ("created_at", sa.Float(), False),
    ("updated_at", sa.Float(), False),
    ("deadline", sa.Float(), True),
    ("expires_at", sa.Float(), False),
    ("result", sa.String(), False),
    ("is_error", sa.Boolean(), False),
    ("outcomes", sa.JSON(), False),
)

ARTIFACT = (
    ("agent_id", sa.String(), False),
    ("turn", sa.Integer(), False),
    ("kind", sa.String(), False),
    ("path", sa.String(), False),
    ("at", sa.Float(), False),
)

COMMAND = (
    ("key", sa.String(), False),
    ("agent_id", sa.String(), False),
    ("turn_id", sa.String(), True),
    ("happened", sa.String(), False),
    ("at", sa.Float(), False),
)

EVENT = (
    ("id", sa.Integer(), False),
    ("agent_id", sa.String(), False),
    ("seq", sa.Integer(), False),
    ("turn", sa.Integer(), True),
    ("kind", sa.String(), False),
    ("at", sa.Float(), False),
    ("body", sa.JSON(), False),
)

INPUT = (
    ("agent_id", sa.String(), False),
    ("turn", sa.Integer(), False),
    ("position", sa.Integer(), False),
    ("source_id", sa.String(), False),
    ("settled", sa.Boolean(), False),
    ("blocked", sa.Boolean(), False),
)

LEASE = (
    ("id", sa.Integer(), False),
    ("kind", sa.String(), False),
    ("name", sa.String(), False),
    ("agent_id", sa.String(), False),
    ("acquired_at", sa.Float(), False),
    ("released_at", sa.Float(), True),
)

PROCESS = (
    ("marker", sa.String(), False),
    ("agent_id", sa.String(), False),
    ("epoch", sa.Integer(), False),
    ("tier", sa.String(), False),
    ("boot", sa.String(), False),
    ("intended_at", sa.Float(), False),
    ("pid", sa.Integer(), True),
    ("started", sa.String(), False),
    ("cgroup", sa.String(), False),
    ("started_at", sa.Float(), True),
    ("ended_at", sa.Float(), True),
)

QUESTION = (
    ("id", sa.String(), False),
    ("agent_id", sa.String(), False),
    ("turn", sa.Integer(), False),
    ("kind", sa.String(), False),
    ("call_id", sa.String(), False),
    ("tool", sa.String(), False),
    ("input", sa.JSON(), False),
    ("text", sa.String(), False),
    ("options", sa.JSON(), False),
    ("asked_at", sa.Float(), False),
    ("deadline_at", sa.Float(), True),
    ("fallback", sa.String(), False),
    ("state", sa.String(), False),
    ("answer", sa.String(), True),
    ("answered_at", sa.Float(), True),
    ("answered_by", sa.String(), True),
)

TRANSCRIPT = (
    ("agent_id", sa.String(), False),
    ("subpath", sa.String(), False),
    ("seq", sa.Integer(), False),
    ("uuid", sa.String(), True),
    ("body", sa.String(), False),
)

TURN = (
    ("id", sa.String(), False),
    ("agent_id", sa.String(), False),
    ("ordinal", sa.Integer(), False),
    ("urgent", sa.Integer(), False),
    ("status", sa.String(), False),
    ("parked", sa.String(), False),
    ("stop", sa.String(), False),
    ("heard", sa.Boolean(), False),
    ("resumes", sa.Integer(), False),
    ("overloads", sa.Integer(), False),
    ("prompt", sa.String(), False),
    ("reason", sa.String(), False),
    ("detail", sa.String(), False),
    ("hint", sa.String(), False),
    ("result", sa.String(), False),
    ("created_at", sa.Float(), False),
    ("started_at", sa.Float(), True),
    ("ended_at", sa.Float(), True),
    ("epoch", sa.Integer(), False),
    ("attempts", sa.Integer(), False),
    ("prompts", sa.JSON(none_as_null=True), True),
    ("losses", sa.JSON(none_as_null=True), True),
    ("input_tokens", sa.Integer(), False),
    ("output_tokens", sa.Integer(), False),
    ("cache_read_tokens", sa.Integer(), False),
    ("cache_write_tokens", sa.Integer(), False),
    ("model_calls", sa.Integer(), False),
    ("cost_usd", sa.Float(), False),
    ("cost_unknown", sa.Boolean(), False),
    ("before", sa.JSON(none_as_null=True), True),
    ("changes", sa.JSON(none_as_null=True), True),
    ("changes_unknown", sa.String(), False),
)


def upgrade() -> None:
    _create_agent()
    _create_breaker()
    _create_budget()
    _create_sleep()
    _create_artifact()
    _create_command()
    _create_event()
    _create_input()
    _create_lease()
    _create_process()
    _create_question()
    _create_transcript()
    _create_turn()


def _columns(table: tuple[tuple[str, sa.types.TypeEngine, bool], ...]) -> Iterator[sa.Column]:
    for name, kind, nullable in table:
        yield sa.Column(name, kind, nullable=nullable)


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


def _create_sleep() -> None:
    op.create_table(
        "sleep",
        *_columns(SLEEP),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sleep")),
        sa.UniqueConstraint("call_key", name=op.f("uq_sleep_call_key")),
    )
    with op.batch_alter_table("sleep", schema=None) as batch_op:
        batch_op.create_index("ix_sleep_status", ["status"], unique=False)


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


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
