"""A turn that is stopped midway is suspended, in the tables as everywhere else"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.alter_column("turn", "parked", new_column_name="suspended_for")
    op.alter_column("turn", "heard", new_column_name="prompt_received")


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
