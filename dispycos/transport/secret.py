"""The secret of a cluster: where it stands, that nobody else can read it, and how it is made."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import SECRET_VARIABLE, Failure
from ..values import PASSPHRASE_MIN
from .folders import find_folders, make_missing

SECRET_FILE_VARIABLE = "DISPYCOS_SECRET_FILE"
GROUP_VARIABLE = "DISPYCOS_GROUP_SECRET"
SECRET_BYTES = 32
SECRET_FILE_MAX = 4096
SCRYPT_N = 2**16
SCRYPT_MEMORY = 128 * 1024 * 1024
SALT = b"dispycos passphrase 1"  # the same on all hosts: they have nothing else in common
SECRET_REMEDY = "copy the secret file from one host to the other (`dispycos secret show` prints it)"


class SecretError(Failure):
    """There is no secret that we would trust."""


@dataclass(frozen=True, slots=True)
class Secret:
    data: bytes = field(repr=False)
    source: str

    @property
    def text(self) -> str:
        """As it stands in a secret file."""
        return self.data.hex()

    @property
    def tag(self) -> str:
        """Tells clusters apart in public without telling the secret."""
        return self.tag_with(b"")

    def tag_with(self, listener: bytes) -> str:
        """Of those who have this public key of listeners beside the secret."""
        return hmac.digest(self.data, b"discovery" + listener, "sha256")[:8].hex()

    @classmethod
    def load_or_make(
        cls,
        path: Path | None = None,
        passphrase: str | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        group_file: Path | None = None,
    ) -> Secret:
        """As load(); the user's own file is made if it is missing."""
        found = cls.load(path, passphrase, environ, group_file=group_file)
        if found is not None:
            return found
        path = find_folders(environ).secret_file
        make_secret(path)
        return cls(read_secret(path), str(path))

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        passphrase: str | None = None,
        environ: Mapping[str, str] | None = None,
        *,
        group_file: Path | None = None,
    ) -> Secret | None:
        """The passphrase, else the file, else what the environment says, else the user's own file; None if that is missing.

        `group_file`: one that its group may read; the same cluster is that of all its members.
        """
        environ = os.environ if environ is None else environ
        if passphrase is not None:
            return cls(secret_bytes(passphrase, "the passphrase"), "the passphrase given with --secret")
        if path is not None:
            return cls(read_secret(path), str(path))
        if group_file is not None:
            return cls(read_secret(group_file, group=True), str(group_file))
        if environ.get(SECRET_VARIABLE):
            return cls(secret_bytes(environ[SECRET_VARIABLE], SECRET_VARIABLE), SECRET_VARIABLE)
        if environ.get(SECRET_FILE_VARIABLE):
            return cls.load(Path(environ[SECRET_FILE_VARIABLE]).expanduser())
        if environ.get(GROUP_VARIABLE):
            return cls.load(group_file=Path(environ[GROUP_VARIABLE]).expanduser())
        path = find_folders(environ).secret_file
        return cls(read_secret(path), str(path)) if path.exists() else None


def secret_bytes(text: str, name: str) -> bytes:
    """The bytes that `secret show` printed, or what a passphrase of at least 16 characters comes to."""
    text = text.strip()
    if len(text) == 2 * SECRET_BYTES and all(c in "0123456789abcdefABCDEF" for c in text):
        return bytes.fromhex(text)
    if len(text) < PASSPHRASE_MIN:
        raise SecretError(
            f"{name} has {len(text)} characters, which is too easy to guess",
            f"use at least {PASSPHRASE_MIN} characters, or a secret file: dispycos secret show",
        )
    return hashlib.scrypt(
        text.encode(), salt=SALT, n=SCRYPT_N, r=8, p=1, maxmem=SCRYPT_MEMORY, dklen=SECRET_BYTES
    )


def read_secret(path: Path, *, group: bool = False) -> bytes:
    """`group`: its group may read it, too."""
    try:
        with open(path, "rb") as file:
            refuse_open_to_others(path, os.fstat(file.fileno()), group=group)
            text = file.read(SECRET_FILE_MAX + 1)
    except OSError as error:
        raise SecretError(
            f"the secret file {path} cannot be read: {error.strerror}",
            "copy it from a host of the cluster, where `dispycos secret show` prints it",
        ) from None
    try:
        if len(text) > SECRET_FILE_MAX:
            raise UnicodeError
        return secret_bytes(text.decode(), f"the secret in {path}")
    except UnicodeError:
        raise SecretError(
            f"{path} does not hold a secret", "it should hold what `dispycos secret show` prints"
        ) from None


def refuse_open_to_others(path: Path, found: os.stat_result, *, group: bool = False) -> None:
    """A secret mounted by Kubernetes or systemd is root's, and may be readable by a group."""
    if os.name != "posix":
        return
    if not stat.S_ISREG(found.st_mode):
        raise SecretError(f"the secret file {path} is not a file")
    if found.st_uid not in (0, os.getuid()):
        raise SecretError(
            f"the secret file {path} belongs to another user (uid {found.st_uid})",
            f"copy it for yourself: install -m 600 {path} FILE",
        )
    allowed = 0o740 if found.st_uid == 0 or group else 0o700
    if found.st_mode & 0o777 & ~allowed:
        raise SecretError(
            f"the secret file {path} can be read or changed by others (mode {found.st_mode & 0o777:o})",
            f"chmod {'640' if group else '600'} {path}",
        )


def make_secret(path: Path) -> None:
    """Makes the file whole or not at all; two processes that make it at once end up with the same secret."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        make_missing(path.parent)
        _write_new(part, secrets.token_hex(SECRET_BYTES) + "\n")
        try:
            with contextlib.suppress(FileExistsError):
                _publish(part, path)
        finally:
            part.unlink()
    except OSError as error:
        raise SecretError(
            f"the secret file {path} cannot be made: {error.strerror}",
            "name one with --secret_file, or make the folder writable",
        ) from error


def write_secret(path: Path, text: str) -> None:
    """In the place of what is there, if anything is."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        make_missing(path.parent)
        _write_new(part, text + "\n")
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise SecretError(f"{path} cannot be written: {error.strerror}") from error


def _write_new(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _publish(part: Path, path: Path) -> None:
    """A hard link appears whole and never replaces; some file systems have none."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        _write_new(path, part.read_text())
