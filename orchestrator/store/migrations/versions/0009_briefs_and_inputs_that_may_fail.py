"""What a chain was told, and inputs that are waited for to end in any way"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("agent", sa.Column("briefs", sa.JSON(), nullable=True))
    op.add_column("input", sa.Column("any_end", sa.Boolean(), nullable=False, server_default="0"))


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
