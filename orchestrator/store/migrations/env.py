"""Alembic's entry point; runs on the connection that orchestrator.store.engine.migrate passes."""

from alembic import context

from orchestrator.store.schema import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
