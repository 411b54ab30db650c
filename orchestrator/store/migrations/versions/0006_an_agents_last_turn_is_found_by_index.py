"""An index by which the last ended turn of an agent with many turns is found"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_turn_ended", "turn", ["agent_id", "ended_at", "ordinal"])


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
