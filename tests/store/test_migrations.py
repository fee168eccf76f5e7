"""The migrations give what `tables` says, on every database."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from penstock.errors import EngineUnavailable
from penstock.store.migrations import VERSION_TABLE, migrate, migration_sql
from penstock.store.tables import metadata


def test_a_migrated_database_has_the_tables_and_no_other():
    engine = sa.create_engine("sqlite://")
    with engine.begin() as conn:
        migrate(conn)
        context = MigrationContext.configure(
            conn, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []


def test_a_migrated_database_has_the_very_ddl_of_the_tables():
    """compare_metadata does not see WITHOUT ROWID, AUTOINCREMENT and the filters of indexes."""

    def ddl(fill):
        engine = sa.create_engine("sqlite://")
        with engine.begin() as conn:
            fill(conn)
            found = conn.exec_driver_sql(
                "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'penstock_version'"
            )
            return {name: " ".join(sql.split()) for name, sql in found}

    assert ddl(migrate) == ddl(metadata.create_all)


@pytest.mark.needs("postgresql")
def test_a_migrated_postgresql_has_the_tables_indexes_and_settings_and_no_others(databases):
    def schema(fill):
        database = databases.new_postgresql()
        engine = sa.create_engine(database.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as conn:
            fill(conn)
            differences = compare_metadata(
                MigrationContext.configure(conn, opts={"version_table": VERSION_TABLE, "compare_type": True}),
                metadata,
            )
        engine.dispose()
        indexes = database.rows(
            "SELECT indexdef FROM pg_indexes WHERE tablename <> 'penstock_version' ORDER BY 1"
        )
        settings = database.rows(
            "SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL AND relname ^@ 'penstock' ORDER BY 1"
        )
        return differences, [row for row in indexes if "penstock" in row[0]], settings

    migrated = schema(migrate)
    assert migrated[0] == []
    assert migrated[1:] == schema(metadata.create_all)[1:]
    assert migrated[2] == [
        (
            "penstock_live",
            [
                "fillfactor=70",
                "autovacuum_vacuum_scale_factor=0.05",
                "autovacuum_vacuum_threshold=1000",
                "autovacuum_vacuum_cost_delay=0",
            ],
        )
    ]


def test_migrating_twice_changes_nothing():
    engine = sa.create_engine("sqlite://")
    with engine.begin() as conn:
        migrate(conn)
        migrate(conn)
        assert conn.exec_driver_sql("SELECT * FROM penstock_version").all() == [("0002_lists",)]


def test_a_schema_from_the_future_is_refused():
    engine = sa.create_engine("sqlite://")
    with engine.begin() as conn:
        migrate(conn)
        conn.exec_driver_sql("UPDATE penstock_version SET version_num = '9999_future'")
        with pytest.raises(EngineUnavailable, match="9999_future"):
            migrate(conn)


@pytest.mark.parametrize(
    ("dialect", "fragments"),
    [
        (
            "sqlite",
            ["flow_id BLOB NOT NULL", "WITHOUT ROWID", "PRIMARY KEY AUTOINCREMENT", "WHERE owner IS NULL"],
        ),
        ("postgresql", ["flow_id UUID NOT NULL", "graph_id BYTEA", "BIGSERIAL", "WHERE owner IS NULL"]),
        ("mysql", ["flow_id BINARY(16) NOT NULL", "LONGTEXT", "idempotency_key VARBINARY(255)"]),
        ("mariadb", ["flow_id BINARY(16) NOT NULL", "LONGTEXT", "idempotency_key VARBINARY(255)"]),
        (
            "mssql",
            ["flow_id BINARY(16) NOT NULL", "Latin1_General_100_BIN2", "WHERE idempotency_key IS NOT NULL"],
        ),
    ],
)
def test_the_statements_are_printed_for_every_database(dialect, fragments):
    sql = migration_sql(dialect)
    for fragment in [*fragments, "CREATE TABLE penstock_version"]:
        assert fragment in sql
    for table in metadata.tables:
        assert f"CREATE TABLE {table} (" in sql
