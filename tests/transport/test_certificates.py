"""The listeners' keys out of files: which are taken, and what is said of the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import zmq
from zmq.auth import create_certificates

from dispycos.config import Misuse
from dispycos.runtime import Runtime
from dispycos.transport.certificates import client_keys, load_listener
from dispycos.transport.secret import Secret
from dispycos.transport.security import KeyPair, Keys

SECRET = Secret(b"s" * 32, "test")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """NAME.key and NAME.key_secret."""
    return make_pair(tmp_path, "ours")


def make_pair(folder: Path, name: str) -> tuple[Path, Path]:
    public, private = map(Path, create_certificates(folder, name))
    private.chmod(0o600)
    return public, private


def test_without_files_the_listeners_keys_come_from_the_secret() -> None:
    assert load_listener(None, None) is None
    assert Keys.from_secret(SECRET, None).tag == SECRET.tag


def test_the_keyfile_has_both_keys_and_the_certfile_the_public_one(pair: tuple[Path, Path]) -> None:
    public, private = pair
    both = load_listener(None, private)
    assert both is not None and zmq.curve_public(both.private) == both.public
    assert load_listener(public, private) == both
    assert load_listener(public, None) == KeyPair(both.public, b"")


def test_another_pair_is_another_cluster_and_the_roles_still_come_from_the_secret(
    pair: tuple[Path, Path],
) -> None:
    derived, own = Keys.from_secret(SECRET), Keys.from_secret(SECRET, load_listener(pair[0], None))
    assert own.tag != derived.tag
    assert own.by_role == derived.by_role


def test_a_program_takes_them_from_its_environment(pair: tuple[Path, Path], tmp_path: Path) -> None:
    environ = {"DISPYCOS_SECRET": "a" * 64, "DISPYCOS_CERTFILE": str(pair[0])}
    assert client_keys(None, environ).listener == load_listener(pair[0], None)


@pytest.mark.parametrize(("theirs", "are_friends"), [("ours", True), ("others", False)])
def test_who_has_the_public_key_gets_a_link_and_who_has_another_does_not(
    pair: tuple[Path, Path], tmp_path: Path, theirs: str, are_friends: bool
) -> None:
    if theirs == "others":
        make_pair(tmp_path, theirs)

    async def scene() -> bool:
        there = Runtime("node", "box", Keys.from_secret(SECRET, load_listener(None, pair[1])))
        here = Runtime(
            "client", "c", Keys.from_secret(SECRET, load_listener(tmp_path / f"{theirs}.key", None))
        )
        try:
            dialler = here.dial([there.listen("tcp://127.0.0.1:0")], keep=False)
            dialler.on_silence = lambda text: None
            async with asyncio.timeout(1):
                return await asyncio.shield(dialler.ready) == there.epoch
        except Exception:
            return False
        finally:
            await here.close()
            await there.close()

    assert asyncio.run(scene()) == are_friends


def spoil(what: str, folder: Path, pair: tuple[Path, Path]) -> tuple[Path | None, Path | None]:
    public, private = pair
    if what == "missing":
        return folder / "nowhere", None
    if what == "a folder":
        return folder, None
    if what == "no keys":
        public.write_text("curve\n")
    if what == "not Z85":
        public.write_text('public-key = "' + "~" * 40 + '"')
    if what == "too short":
        public.write_text('public-key = "abcde"')
    if what == "binary":
        public.write_bytes(bytes(range(256)))
    if what == "the public one":
        public.chmod(0o600)
        return None, public
    if what == "open":
        private.chmod(0o644)
    if what == "of two":
        return make_pair(folder, "two")[0], private
    if what == "patched":
        other = load_listener(make_pair(folder, "two")[0], None)
        mine = load_listener(public, None)
        assert mine is not None and other is not None
        private.write_text(private.read_text().replace(mine.public.decode(), other.public.decode()))
        return None, private
    return (None, private) if what == "open" else (public, None)


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("missing", "--certfile .*nowhere cannot be read: there is no such file"),
        ("a folder", "--certfile .* cannot be read: Is a directory"),
        ("no keys", r"--certfile .*ours\.key holds no CURVE key"),
        ("not Z85", "holds no CURVE key: it is not 40 letters of Z85"),
        ("too short", "holds no CURVE key: it is not 40 letters of Z85"),
        ("binary", "holds no CURVE key"),
        ("the public one", r"--keyfile .*ours\.key holds no secret key"),
        ("open", r"--keyfile: .*ours\.key_secret can be read or changed by others \(mode 644\)"),
        ("of two", r"--certfile .*two\.key and --keyfile .*ours\.key_secret are not of one pair"),
        ("patched", r"the keys in --keyfile .*ours\.key_secret are not of one pair"),
    ],
)
def test_a_file_of_no_use_is_named_and_what_to_do(
    what: str, complaint: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    files = spoil(what, tmp_path, pair)
    with pytest.raises(Misuse, match=complaint) as caught:
        load_listener(*files)
    assert caught.value.remedy and caught.value.exit_code == 2
