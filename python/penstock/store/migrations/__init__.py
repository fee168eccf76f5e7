"""The schema's history, shipped with the package: Alembic scripts with a version table of their own."""

from io import StringIO
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from penstock.errors import EngineUnavailable

VERSION_TABLE = "penstock_version"


def _config(output: StringIO | None = None) -> Config:
    config = Config(output_buffer=output, stdout=StringIO())
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def migrate(connection: Connection) -> None:
    """Bring the database behind *connection* to the newest schema, inside the transaction that the caller holds.

    Raises:
        EngineUnavailable: The schema is of a version that this one does not know.
    """
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise EngineUnavailable(
            f"The database's schema is not one that this version knows: {error}."
        ) from error


def check_schema(connection: Connection) -> None:
    """Refuse a database whose schema is not the one that this version writes to; nothing is changed.

    Raises:
        EngineUnavailable: There is none yet, or it is of another version.
    """
    found = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_heads()
    if not found:
        raise EngineUnavailable(
            "No engine has ever used this database: start one on it, which makes the tables."
        )
    known = ScriptDirectory.from_config(_config()).get_heads()
    if sorted(found) != sorted(known):
        raise EngineUnavailable(
            f"The database's schema is {', '.join(found)} and this version knows {', '.join(known)}: "
            "run the version of the engines here too."
        )


def migration_sql(dialect: str, revisions: str = "head") -> str:
    """Write the statements of an upgrade without touching a database.

    Args:
        dialect: `sqlite`, `postgresql`, `mysql`, `mariadb` or `mssql`.
        revisions: Where to; `0001_base:head` says from where as well.
    """
    output = StringIO()
    config = _config(output)
    config.attributes["dialect"] = dialect
    command.upgrade(config, revisions, sql=True)
    return output.getvalue()
