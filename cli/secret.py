"""`dispycos secret show`, `export` and `import`: the cluster's secret, from one host to the other."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

from dispycos.config import ExportSettings, Failure, ImportSettings, SecretSettings
from dispycos.transport.folders import find_folders
from dispycos.transport.secret import SECRET_FILE_MAX, Secret, SecretError, secret_bytes, write_secret

STDIO = Path("-")


def run(settings: SecretSettings) -> int:
    """Exit code 0; what cannot be read or written is a Failure in words."""
    for note in find_folders().notes:
        print(f"dispycos secret: {note}", file=sys.stderr)
    match settings:
        case ExportSettings(file=Path() as file) if file != STDIO:
            return _export(settings, file)
        case ImportSettings():
            return _import(settings)
        case _:
            return _show(settings)


def _load(settings: SecretSettings) -> Secret:
    return Secret.load_or_make(settings.secret_file, group_file=settings.group_secret)


def _show(settings: SecretSettings) -> int:
    """The secret alone is on stdout, so that it can be piped into a file; where it lies is said on stderr."""
    secret = _load(settings)
    if settings.json:
        print(json.dumps({"secret": secret.text, "source": secret.source, "tag": secret.tag}))
        return 0
    print(secret.text)
    if sys.stderr.isatty():
        print(f"from {secret.source}; on another host: dispycos secret import", file=sys.stderr)
    return 0


def _export(settings: ExportSettings, file: Path) -> int:
    secret = _load(settings)
    _put(secret, file, force=settings.force)
    print(
        f"the secret from {secret.source} is in {file}; on another host: dispycos secret import {file.name}"
    )
    return 0


def _import(settings: ImportSettings) -> int:
    source = settings.file or STDIO
    secret = Secret(secret_bytes(_read(source), f"what is in {_title(source)}"), _title(source))
    file = settings.secret_file or find_folders().secret_file
    changed = _put(secret, file, force=settings.force)
    if source != STDIO and source.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        print(f"others can read {source}: remove it", file=sys.stderr)
    print(f"the secret is in {file}" if changed else f"{file} holds this very secret already")
    return 0


def _title(source: Path) -> str:
    return "standard input" if source == STDIO else str(source)


def _read(source: Path) -> str:
    if source == STDIO and sys.stdin.isatty():
        print("paste what `dispycos secret show` prints on the other host, or a passphrase:", file=sys.stderr)
    try:
        with open(0 if source == STDIO else source, "rb", closefd=source != STDIO) as file:
            data = file.readline(SECRET_FILE_MAX + 1) if source == STDIO else file.read(SECRET_FILE_MAX + 1)
        text = data.decode().strip()
    except OSError as error:
        raise SecretError(f"{source} cannot be read: {error.strerror}", _REMEDY) from None
    except UnicodeError:
        text = ""
    if not text or len(text) > SECRET_FILE_MAX or not text.isprintable():
        raise SecretError(f"{_title(source)} holds no secret", _REMEDY)
    return text


_REMEDY = (
    "`dispycos secret export FILE` on a host of the cluster writes one; or give a passphrase of 16 characters"
)


def _put(secret: Secret, file: Path, *, force: bool) -> bool:
    """Whether the file was changed. Another secret is overwritten only if it shall be: its cluster would be out of reach."""
    if os.path.lexists(file) and not force:
        try:
            same = file.read_text().strip() == secret.text
        except (OSError, UnicodeError):
            same = False
        if same:
            return False
        raise Failure(
            f"{file} is there already and holds something else",
            "--force overwrites it: processes with the old secret are another cluster then",
        )
    write_secret(file, secret.text)
    return True
