"""Indexes from which the fleet's totals are read: one of resting agents, with few columns, and one of all others"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = ["project", "status", "cost_unknown", "rehearsal", "tokens", "context_tokens", "cost_usd"]
RESTING = sa.text("deleted_at IS NULL AND running_since IS NULL AND live_tokens = 0 AND live_cost_usd = 0")
AT_WORK = sa.text("deleted_at IS NULL AND (running_since IS NOT NULL OR live_tokens != 0 OR live_cost_usd != 0)")


def upgrade() -> None:
    op.drop_index("ix_agent_totals", "agent")
    op.create_index("ix_agent_resting", "agent", COLUMNS, sqlite_where=RESTING)
    op.create_index("ix_agent_at_work", "agent", ["project"], sqlite_where=AT_WORK)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
