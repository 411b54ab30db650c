"""The table of durable waits has their name"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TEXTS = ("id", "project", "orchestrator", "until", "status", "result")
OPTIONAL_TEXTS = ("call_key", "since", "question_id")
TIMES = ("created_at", "updated_at", "expires_at")
NAMES = (*TEXTS, *OPTIONAL_TEXTS, *TIMES, "deadline", "asks_person", "is_error", "agents", "outcomes")


def upgrade() -> None:
    op.create_table(
        "durable_wait",
        *[sa.Column(name, sa.String(), nullable=name in OPTIONAL_TEXTS) for name in (*TEXTS, *OPTIONAL_TEXTS)],
        *[sa.Column(name, sa.Float(), nullable=name == "deadline") for name in (*TIMES, "deadline")],
        *[sa.Column(name, sa.Boolean(), nullable=False) for name in ("asks_person", "is_error")],
        *[sa.Column(name, sa.JSON(), nullable=False) for name in ("agents", "outcomes")],
        sa.ForeignKeyConstraint(["question_id"], ["question.id"], name=op.f("fk_durable_wait_question_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_durable_wait")),
        sa.UniqueConstraint("call_key", name=op.f("uq_durable_wait_call_key")),
    )
    old, new = [sa.table(name, *[sa.column(column) for column in NAMES]) for name in ("sleep", "durable_wait")]
    op.execute(sa.insert(new).from_select(NAMES, sa.select(old)))
    op.drop_table("sleep")
    op.create_index("ix_durable_wait_question_id", "durable_wait", ["question_id"])
    op.create_index("ix_durable_wait_status", "durable_wait", ["status"])


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
