"""From a URL to a file and its options."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from penstock.errors import EngineUnavailable, Invalid

_LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")


@dataclass(frozen=True, slots=True)
class Location:
    """Where the database is.

    Attributes:
        path: The file, all links followed, so that two names of one file meet in one lock.
        synchronous: SQLite's word for what survives a power failure.
        is_temporary: The file's directory was made for it and goes when the store is closed.
    """

    path: Path
    synchronous: str
    is_temporary: bool

    def remove(self) -> None:
        """Remove a temporary database; a lasting one stays."""
        if self.is_temporary:
            shutil.rmtree(self.path.parent, ignore_errors=True)


def locate(url: URL) -> Location:
    """Read a SQLite URL. `sqlite://` and `sqlite:///:memory:` give a file in a temporary directory.

    A database in memory would be another engine to test against: its shared cache locks whole tables and knows no
    write-ahead log.

    Raises:
        Invalid: The URL has an option that is not known.
        EngineUnavailable: The directory does not exist, or may not be looked into.
    """
    synchronous = _synchronous(url)
    if url.database in (None, "", ":memory:"):
        directory = Path(tempfile.mkdtemp(prefix="penstock-"))
        return Location(directory / "penstock.db", "OFF", is_temporary=True)
    return Location(_reach(Path(str(url.database))), synchronous, is_temporary=False)


def _reach(named: Path) -> Path:
    try:
        path = named.resolve()
        if not path.parent.is_dir():
            raise EngineUnavailable(
                f"The directory {path.parent} of the database {path.name} does not exist."
            )
        if path.is_dir():
            raise EngineUnavailable(f"The database {path} is a directory.")
    except (OSError, RuntimeError) as error:  # no right to look there, a loop of links
        raise EngineUnavailable(f"The database {named} cannot be reached: {error}.") from error
    return path


def _synchronous(url: URL) -> str:
    unknown = sorted(set(url.query) - {"synchronous"})
    if unknown or str(url.database).startswith("file:"):
        raise Invalid(
            f"A SQLite URL knows the option synchronous ({', '.join(_LEVELS)}) and no other; found {', '.join(unknown) or 'file:'}."
        )
    level = str(url.query.get("synchronous", "FULL")).upper()
    if level not in _LEVELS:
        raise Invalid(f"synchronous={level} is not one of {', '.join(_LEVELS)}.")
    return level
