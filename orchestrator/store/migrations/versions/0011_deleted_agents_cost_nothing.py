"""What is asked often reads no deleted agent, however many there are"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LIVING, DELETED = sa.text("deleted_at IS NULL"), sa.text("deleted_at IS NOT NULL")
TOLD_NOBODY = """
    UPDATE turn SET delivered_at = (SELECT deleted_at FROM agent WHERE agent.id = turn.agent_id)
    WHERE outcome_cursor IS NOT NULL AND delivered_at IS NULL
      AND agent_id IN (SELECT id FROM agent WHERE deleted_at IS NOT NULL)
"""


def upgrade() -> None:
    op.drop_index("ix_agent_orchestrator", "agent")
    op.create_index("ix_agent_orchestrator", "agent", ["project", "orchestrator", "created_at"], sqlite_where=LIVING)
    op.create_index("ix_agent_deleted", "agent", ["project", "name", "created_at"], sqlite_where=DELETED)
    op.execute(TOLD_NOBODY)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
