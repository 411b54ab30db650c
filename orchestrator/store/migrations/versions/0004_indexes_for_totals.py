"""Indexes from which the fleet's totals are read"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TOTALLED = [
    "project",
    "status",
    "created_at",
    "tokens",
    "live_tokens",
    "context_tokens",
    "cost_usd",
    "live_cost_usd",
    "cost_unknown",
    "running_since",
    "rehearsal",
    "deleted_at",
]
LIVING = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.drop_index("ix_agent_orchestrator", "agent")
    op.create_index("ix_agent_orchestrator", "agent", ["project", "orchestrator", "created_at"])
    op.create_index("ix_agent_living", "agent", ["project", "created_at"], sqlite_where=LIVING)
    op.create_index("ix_agent_totals", "agent", TOTALLED, sqlite_where=LIVING)
    op.create_index("ix_agent_asking", "agent", ["project"], sqlite_where=sa.text("pending IS NOT NULL"))
    op.create_index("ix_input_unsettled", "input", ["agent_id"], sqlite_where=sa.text("settled IS 0"))


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
