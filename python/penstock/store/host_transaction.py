"""Creating flows inside a transaction of the host's own."""

from collections.abc import Sequence

from sqlalchemy.engine import Connection

from penstock.errors import Invalid
from penstock.store import creation, graphs
from penstock.store.creation import Insert
from penstock.store.rows import Created, NewFlow


def check_transaction(conn: Connection, dialect: str) -> None:
    """Refuse a connection of another kind of database, and one whose statements are transactions of their own."""
    if conn.dialect.name != dialect:
        raise Invalid(
            f"connection is to {conn.dialect.name} and the flows are in {dialect}: "
            "pass a connection to the database of the engine"
        )
    level = conn.get_execution_options().get("isolation_level")
    if level == "AUTOCOMMIT" or getattr(conn.connection.driver_connection, "autocommit", None) is True:
        raise Invalid(
            "connection commits each statement by itself: pass one with a transaction, such as engine.begin() gives"
        )


def create_on(
    conn: Connection,
    flows: Sequence[NewFlow],
    graph: tuple[bytes, str, str] | None,
    now: int,
    insert: Insert,
) -> list[Created]:
    """Insert flows, and before them (id, workflow, definition) of a graph that nobody has published."""
    if graph is not None:
        graphs.publish(conn, *graph, now, insert)
    return creation.create_flows(conn, flows, insert)
