"""From a URL to what the driver and SQLAlchemy connect with."""

from dataclasses import dataclass
from typing import Any

from psycopg.conninfo import make_conninfo
from sqlalchemy.engine import URL

from penstock.errors import Invalid

PREPARE = ("auto", "on", "off")

_DEFAULTS: dict[str, Any] = {
    "application_name": "penstock",
    "connect_timeout": 10,
    # A peer that vanished without a word is noticed in half a minute, not in two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is.

    Attributes:
        conninfo: For the driver.
        url: For SQLAlchemy, with the same settings.
        prepare: `auto` prepares the hot statements where no proxy stands between, `on` always, `off` never.
        shown: Host and database, without a password.
    """

    conninfo: str
    url: URL
    prepare: str
    shown: str


def locate(url: URL) -> Location:
    """Read a PostgreSQL URL. Options are libpq's, and `prepare`.

    Raises:
        Invalid: The URL asks for another driver, or an option cannot be read.
    """
    if url.get_driver_name() not in ("psycopg", "psycopg2") or url.drivername == "postgresql+psycopg2":
        raise Invalid(
            f"The driver of a PostgreSQL URL is psycopg; write postgresql://… instead of {url.drivername}://."
        )
    query = {name: value if isinstance(value, str) else ",".join(value) for name, value in url.query.items()}
    prepare = query.pop("prepare", "auto")
    if prepare not in PREPARE:
        raise Invalid(f"prepare={prepare} is not one of {', '.join(PREPARE)}.")
    settings = _DEFAULTS | query
    address = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    given = {name: value for name, value in address.items() if value is not None}
    try:
        conninfo = make_conninfo(**{"dbname": url.database, **given, **settings})
    except Exception as error:
        raise Invalid(f"The PostgreSQL URL cannot be read: {error}.") from error
    alchemy = url.set(
        drivername="postgresql+psycopg", query={name: str(value) for name, value in settings.items()}
    )
    where = url.host or query.get("host", "the local server")
    return Location(conninfo, alchemy, prepare, f"{url.database or ''} at {where}")
