"""The listeners' key pair out of files (--certfile, --keyfile), in the place of the one that is derived from the secret.

Who listens has both keys; who only dials has the public one, and so can be let in but not be taken for a scheduler or node.
The files are those of `zmq.auth.create_certificates`: NAME.key, and NAME.key_secret.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import zmq

from ..config import Misuse
from .secret import Secret, SecretError, refuse_open_to_others
from .security import KeyPair, Keys

MAKE_REMEDY = "zmq.auth.create_certificates(FOLDER, NAME) makes a pair: NAME.key and NAME.key_secret"
Z85_KEY = 40


def client_keys(secret_file: Path | None, environ: Mapping[str, str] | None = None) -> Keys:
    """Those of a program, which listens nowhere: by its environment, as of the commands."""
    found = os.environ if environ is None else environ
    files = (
        Path(text) if (text := found.get(f"DISPYCOS_{name}")) else None for name in ("CERTFILE", "KEYFILE")
    )
    return Keys.from_secret(Secret.load_or_make(secret_file, environ=environ), load_listener(*files))


def load_listener(certfile: Path | None, keyfile: Path | None) -> KeyPair | None:
    """The pair, its private half empty without a keyfile; None without both. Raises Misuse naming option and file."""
    if certfile is None and keyfile is None:
        return None
    public = _load(certfile, "--certfile")[0] if certfile is not None else b""
    if keyfile is None:
        return KeyPair(public, b"")
    own, private = _load(keyfile, "--keyfile")
    if not private:
        raise Misuse(f"--keyfile {keyfile} holds no secret key", MAKE_REMEDY)
    if zmq.curve_public(private) != own or public not in (b"", own):
        where = (
            f"--certfile {certfile} and --keyfile {keyfile}" if public else f"the keys in --keyfile {keyfile}"
        )
        raise Misuse(f"{where} are not of one pair", MAKE_REMEDY)
    return KeyPair(own, private)


def _load(path: Path, option: str) -> tuple[bytes, bytes]:
    """The public and the secret key, empty if there is none."""
    from zmq.auth import load_certificate

    try:
        if option == "--keyfile":
            refuse_open_to_others(path, path.stat())
        public, private = load_certificate(path)
    except SecretError as error:
        raise Misuse(f"{option}: {error.text}", error.remedy) from None
    except OSError as error:
        why = error.strerror or "there is no such file"
        raise Misuse(f"{option} {path} cannot be read: {why}", MAKE_REMEDY) from None
    except ValueError:
        raise Misuse(f"{option} {path} holds no CURVE key", MAKE_REMEDY) from None
    for key in filter(None, (public, private)):
        if not _is_key(key):
            raise Misuse(
                f"{option} {path} holds no CURVE key: it is not {Z85_KEY} letters of Z85", MAKE_REMEDY
            )
    return public, private or b""


def _is_key(text: bytes) -> bool:
    from zmq.utils import z85

    try:
        return len(text) == Z85_KEY and z85.encode(z85.decode(text)) == text
    except (KeyError, ValueError, OverflowError):
        return False
