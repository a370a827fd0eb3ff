"""Files of which none is ever half there: written beside and put in place, kept under a key, held by one process."""

from __future__ import annotations

import errno
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from repro import base
from repro.book.errors import BadInput, BookError, DiskFull

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Locked(BookError):
    """Another process is at work there."""

    exit_code = 4


@contextmanager
def system_errors(path: Path | None = None) -> Iterator[None]:
    """Turn what the operating system refuses (no room, no right to write) into one clear line."""
    try:
        yield
    except OSError as error:
        where = path or error.filename or "a file"
        if error.errno in NO_ROOM:
            raise DiskFull(f"the disk is full: could not write {where}; what was there stays") from error
        raise BookError(f"could not write {where}: {error.strerror or error}") from error


def one_line(error: object) -> str:
    """What an error says, without its line breaks."""
    return " ".join(str(error).split())


@contextmanager
def readable(path: Path, what: str) -> Iterator[None]:
    """Turn whatever is wrong with a file that is read into one line, which also says what is in it."""
    try:
        yield
    except FileNotFoundError:
        raise BadInput(f"{path.name} is missing: {what}") from None
    except Exception as error:  # readers of YAML, BibTeX and tables have no error in common
        raise BadInput(f"{path.name} cannot be read: {one_line(error)}; {what}") from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """As ``base.write_atomically``; what the operating system refuses is one clear line."""
    with system_errors(path):
        base.write_atomically(path, content)


def check_writable(path: Path) -> None:
    """Raise in one clear line, before the work, where ``write_atomically`` could not write afterwards."""
    with system_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))


@contextmanager
def alone(lock: Path, told: str) -> Iterator[None]:
    """Hold a lock for this process alone; it goes with the process, however it ends. Raises ``Locked``."""
    with system_errors(lock.parent):
        lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(lock, timeout=0):
            yield
    except filelock.Timeout:
        raise Locked(f"another {told}; wait for it, or stop it first") from None


def keep(folder: Path, key: str, content: bytes) -> None:
    """Keep something under a key, with its checksum; the entry appears whole or not at all."""
    write_atomically(folder / f"{key}.run", sha256(content).encode() + b"\n" + content)


def kept(folder: Path, key: str) -> bytes | None:
    """What was kept under a key, such as an executed notebook; None where it never was, or is damaged."""
    with suppress(OSError):
        checksum, _, content = (folder / f"{key}.run").read_bytes().partition(b"\n")
        if checksum == sha256(content).encode():
            return content
    return None


def sha256(*parts: bytes) -> str:
    """One hash of several byte strings, each with its length, so that moving a boundary changes the hash."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(str(len(part)).encode() + b":")
        digest.update(part)
    return digest.hexdigest()


def hash_of(value: object) -> str:
    """One hash of a value that JSON can write."""
    return sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode())


def hash_of_files(folder: Path, files: Iterable[Path]) -> str:
    """One hash of these files of a folder: of their places in it and their contents."""
    return sha256(
        *(part for p in files for part in (p.relative_to(folder).as_posix().encode(), p.read_bytes()))
    )


def shown(path: Path) -> str:
    """A path as a person would type it: relative to the working directory where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)
