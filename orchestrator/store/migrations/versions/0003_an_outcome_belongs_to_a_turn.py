"""An outcome belongs to a turn"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# How its agent rests is what a cancelled or interrupted turn tells; one that another turn followed was never told.
RECORD = """
UPDATE turn SET outcome_cursor = (
    SELECT coalesce(max(event.id), 0) FROM event
    WHERE event.agent_id = turn.agent_id AND event.turn = turn.ordinal AND event.kind = 'turn.' || turn.status
)
WHERE status IN ('complete', 'failed') OR (
    status IN ('interrupted', 'cancelled') AND EXISTS (
        SELECT 1 FROM agent JOIN event ON event.id = agent.ended_cursor
        WHERE agent.id = turn.agent_id AND event.turn = turn.ordinal
        AND agent.status IN ('complete', 'failed', 'interrupted')
    )
)
"""
DELIVER = """
UPDATE turn SET delivered_at = ended_at
WHERE outcome_cursor IS NOT NULL
AND ordinal <= (SELECT agent.delivered_turn FROM agent WHERE agent.id = turn.agent_id)
"""


def upgrade() -> None:
    op.add_column("turn", sa.Column("outcome_cursor", sa.Integer(), nullable=True))
    op.add_column("turn", sa.Column("delivered_at", sa.Float(), nullable=True))
    op.execute(RECORD)
    op.execute(DELIVER)
    op.create_index(
        "ix_turn_unread",
        "turn",
        ["agent_id"],
        sqlite_where=sa.text("outcome_cursor IS NOT NULL AND delivered_at IS NULL"),
    )
    _name_the_turns_of_waits()
    op.execute("ALTER TABLE agent DROP COLUMN delivered_turn")
    op.execute("ALTER TABLE agent DROP COLUMN ended_cursor")


def _name_the_turns_of_waits() -> None:
    """Replace {agent id: ordinal} by the ids of these turns."""
    connection = op.get_bind()
    turn = sa.text("SELECT id FROM turn WHERE agent_id = :agent AND ordinal = :ordinal")
    for wait_id, outcomes in connection.execute(sa.text("SELECT id, outcomes FROM sleep")).all():
        told = json.loads(outcomes)
        found = [connection.execute(turn, {"agent": one, "ordinal": told[one]}).scalar() for one in told]
        values = {"id": wait_id, "outcomes": json.dumps([turn_id for turn_id in found if turn_id is not None])}
        connection.execute(sa.text("UPDATE sleep SET outcomes = :outcomes WHERE id = :id"), values)


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
