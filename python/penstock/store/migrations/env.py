"""Run by Alembic, never imported: applies the scripts to the caller's connection, or prints them."""

from alembic import context

from penstock.store.migrations import VERSION_TABLE
from penstock.store.tables import metadata

options = context.config.attributes

if context.is_offline_mode():
    context.configure(
        dialect_name=options["dialect"],
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    context.configure(connection=options["connection"], target_metadata=metadata, version_table=VERSION_TABLE)
    context.run_migrations()
