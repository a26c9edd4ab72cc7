"""`dispycos run SCRIPT`: runs a script that was written for pycos or dispy, as `python SCRIPT` would, with its names found here."""

from __future__ import annotations

import ast
import builtins
import logging
import os
import sys
import tokenize
import traceback
from importlib import import_module
from pathlib import Path
from types import CodeType, ModuleType

from dispycos.actors.compat.names import REMEDY_2, explain
from dispycos.actors.compat.program import program
from dispycos.actors.compat.translating import Finder, Loader, translated
from dispycos.actors.tasks.ends import without_our_frames
from dispycos.config import SECRET_VARIABLE, Misuse, RunSettings
from dispycos.transport.secret import GROUP_VARIABLE, SECRET_FILE_VARIABLE

INTERRUPTED = 130


def run(settings: RunSettings) -> int:
    """The script's exit code, when its tasks have ended."""
    path = settings.script
    assert path is not None
    _say_what_dispycos_says(debug=settings.debug)
    code = compile_script(path)
    _use_secret(settings)
    program.location = str(settings.location) if settings.location is not None else None
    program.local_servers = settings.local
    import_module("dispycos.compat")
    sys.argv = [str(path), *settings.arguments]
    sys.path[0:0] = [str(path.resolve().parent)]
    sys.meta_path.insert(0, Finder(path.parent))
    return _finish(_execute(path, code))


def _say_what_dispycos_says(*, debug: bool) -> None:
    """To standard error. How the root logger is set up is the script's business."""
    log = logging.getLogger("dispycos")
    handler = logging.StreamHandler()
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(message)s" if debug else "dispycos: %(message)s")
    )
    log.addHandler(handler)
    log.propagate = False
    log.setLevel(logging.DEBUG if debug else logging.WARNING)


def _use_secret(settings: RunSettings) -> None:
    """As from the environment: the script's processes find it there, too."""
    files = {SECRET_FILE_VARIABLE: settings.secret_file, GROUP_VARIABLE: settings.group_secret}
    if any(files.values()):
        for name in (SECRET_VARIABLE, *files):
            os.environ.pop(name, None)
        os.environ.update({name: os.path.abspath(path) for name, path in files.items() if path is not None})


def compile_script(path: Path) -> CodeType:
    """Raises Misuse: there is no such script, or it is no Python of today."""
    try:
        text = Loader("__main__", str(path)).get_data(str(path))
    except OSError as error:
        raise Misuse(f"{path}: {error.strerror}", "name the file of a Python script") from None
    try:
        decoded = _decoded(path)
        ast.parse(decoded, str(path))
        return compile(translated(decoded), str(path), "exec", dont_inherit=True)
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        raise Misuse(_fault(path, text, error), _remedy(error)) from None


def _decoded(path: Path) -> str:
    with tokenize.open(path) as file:
        return file.read()


def _fault(path: Path, text: bytes, error: Exception) -> str:
    if not isinstance(error, SyntaxError) or error.lineno is None:
        return f"{path}: {error}"
    line = (error.text or "").strip()
    return f"{path}, line {error.lineno}: {error.msg}" + (f"\n    {line}" if line else "")


def _remedy(error: Exception) -> str:
    text = str(error)
    if isinstance(error, UnicodeDecodeError) or "encoding" in text or "null bytes" in text:
        return (
            "a script is text in UTF-8, or its first line names another encoding: # -*- coding: latin-1 -*-"
        )
    if (
        "print" in text
        or "exec" in text
        or "Missing parentheses" in text
        or "multiple exception types" in text
        or (isinstance(error, SyntaxError) and (error.text or "").lstrip().startswith("raise "))
    ):
        return REMEDY_2
    return "`python -m py_compile` says the same"


def _execute(path: Path, code: CodeType) -> int:
    main = ModuleType("__main__")
    main.__file__ = str(path)
    main.__loader__ = Loader("__main__", str(path))
    vars(main)["__builtins__"] = builtins
    sys.modules["__main__"] = main
    try:
        exec(code, vars(main))
    except SystemExit as end:
        return _exit_code(end)
    except KeyboardInterrupt:
        program.terminate()
        return INTERRUPTED
    except BaseException as error:
        _show(error)
        return 1
    return 0


def _exit_code(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> None:
    """The traceback begins with the script; a name that is not there is led to where is written which are."""
    explain(error)
    sys.stdout.flush()
    traceback.print_exception(without_our_frames(error))


def _finish(code: int) -> int:
    try:
        program.finish()
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        sys.stdout.flush()
    if code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return code
