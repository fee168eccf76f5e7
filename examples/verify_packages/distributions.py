"""Find distributions and read the lists of files that they carry. Nothing here knows of workflows."""

from __future__ import annotations

import base64
import csv
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

DPKG_INFO = Path("/var/lib/dpkg/info")
# A system may be told not to unpack these (`path-exclude`), as container images are.
OPTIONAL_FOLDERS = tuple(Path("/usr/share") / name for name in ("doc", "man", "locale", "info", "lintian"))


class NoManifestError(Exception):
    """The distribution carries no list of its files with their checksums."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file as a manifest has it; `size` is None where the manifest does not say."""

    path: Path
    algorithm: str
    digest: str
    size: int | None


def default_roots() -> list[str]:
    """The folders of this environment, of the interpreter that it was made from, and of the system."""
    base = {"base": sys.base_prefix, "platbase": sys.base_prefix}
    found = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    found += [Path(sysconfig.get_path("purelib", vars=base)), Path("/usr/lib/python3/dist-packages")]
    found += sorted(Path("/usr/local/lib").glob("python3*/dist-packages"))
    return existing(found)


def existing(paths: Iterable[Path]) -> list[str]:
    """The folders among `paths`, resolved, each once, in order."""
    return list(dict.fromkeys(str(path.resolve()) for path in paths if path.is_dir()))


def find_distributions(root: Path, dpkg_owners: dict[str, str]) -> Iterator[dict[str, str]]:
    """Describe every distribution in `root`: name, version, root, metadata folder and the manifest to check against.

    A package of the system is checked against the system's own list, which the system's tools keep true.
    """
    for metadata in sorted(root.iterdir()):
        if metadata.suffix not in (".dist-info", ".egg-info") or metadata.name.startswith("~"):
            continue
        name, version = read_name(metadata)
        record = metadata / "RECORD"
        manifest = dpkg_owners.get(str(metadata)) or (str(record) if record.is_file() else "")
        yield {"name": name, "version": version, "root": str(root), "manifest": manifest}


def read_name(metadata: Path) -> tuple[str, str]:
    """Name and version of a distribution, from its metadata or else from the name of the folder."""
    for path in (metadata / "METADATA", metadata / "PKG-INFO", metadata):
        if path.is_file():
            headers = HeaderParser().parsestr(path.read_text(encoding="utf-8", errors="replace"))
            if headers["Name"]:
                return str(headers["Name"]), str(headers["Version"] or "")
    name, _, version = metadata.stem.partition("-")
    return name, version


def read_dpkg_owners() -> dict[str, str]:
    """Which `md5sums` file of dpkg lists a given metadata folder; empty where there is no dpkg."""
    owners: dict[str, str] = {}
    for manifest in sorted(DPKG_INFO.glob("*.md5sums")) if DPKG_INFO.is_dir() else []:
        text = manifest.read_text(encoding="utf-8", errors="surrogateescape")
        if "-packages/" not in text:
            continue
        for line in text.splitlines():
            path = Path("/") / line[34:]
            for metadata in (path, path.parent):
                if metadata.suffix in (".dist-info", ".egg-info"):
                    owners[str(metadata)] = str(manifest)
    return owners


def read_manifest(manifest: str, root: Path) -> list[Entry]:
    """Read every file with a checksum from a RECORD or an md5sums file.

    Raises:
        NoManifestError: There is no such list, or it has no checksums.
    """
    if not manifest:
        raise NoManifestError("neither a RECORD nor an md5sums file lists its files")
    path = Path(manifest)
    entries = list(read_md5sums(path) if path.suffix == ".md5sums" else read_record(path, root))
    if not entries:
        raise NoManifestError(f"{manifest} holds no checksums")
    return entries


def read_record(record: Path, root: Path) -> Iterator[Entry]:
    """The lines of a RECORD that have a checksum; RECORD itself and byte code have none."""
    with record.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        for row in csv.reader(lines):
            if len(row) < 2 or "=" not in row[1]:
                continue
            algorithm, _, digest = row[1].partition("=")
            size = int(row[2]) if len(row) > 2 and row[2].isdigit() else None
            yield Entry(root / row[0], algorithm, digest, size)


def read_md5sums(md5sums: Path) -> Iterator[Entry]:
    """The lines of dpkg's list; its paths are relative to the root of the file system."""
    with md5sums.open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            yield Entry(Path("/") / line[34:].rstrip("\n"), "md5", line[:32], None)


def check(entry: Entry) -> tuple[int, str]:
    """Compare one file with its entry: bytes read, and what is wrong with it (empty: nothing; `missing`: gone)."""
    try:
        with entry.path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.new(entry.algorithm, usedforsecurity=False))
            size = file.tell()
    except FileNotFoundError:
        is_optional = any(entry.path.is_relative_to(folder) for folder in OPTIONAL_FOLDERS)
        return 0, "" if is_optional else "missing"
    except OSError as error:
        return 0, f"cannot be read: {error.strerror}"
    if entry.size is not None and size != entry.size:
        return size, f"{size} bytes instead of {entry.size}"
    digest = found.hexdigest() if entry.algorithm == "md5" else encode_digest(found.digest())
    return size, "" if digest == entry.digest else f"{entry.algorithm} differs"


def encode_digest(digest: bytes) -> str:
    """A digest as RECORD writes it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
