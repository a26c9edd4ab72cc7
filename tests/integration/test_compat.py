"""`dispycos run`: scripts in the words of pycos, each in the dialect of its time, run as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kit.programs import Program, User

pytestmark = pytest.mark.timeout(60)

SCRIPTS = Path(__file__).parents[1] / "scripts" / "pycos"


def start(
    user: User, name: str, *arguments: str, options: tuple[str, ...] = (), stdin: int | None = None
) -> Program:
    """`dispycos run OPTIONS NAME ARGUMENTS`, in a folder with all scripts."""
    user.write({str(path.relative_to(SCRIPTS)): path.read_text() for path in SCRIPTS.rglob("*.py")})
    return user.command("run", *options, name, *arguments, stdin=stdin)


LOCAL = """\
sock b'HELLO'
sock timeout
sock b''
set False
discover 0 0
pipe b'line1\\n'
pipe b'line2\\n' 0 0
(b'a\\nb\\n', None)
subscribe 0
sub got ('ch', 1)
deliver 1
reg 0 0
sub got ('ch', 2)
alarm
True True None
resume 0
resumed R
alarm
[0, 0, 1, 1, 2, 2]
old a
swap new 1
new b
swapped
<class 'KeyError'>
mon 0
True <class 'KeyError'> True
resumed 7
alarm
<class 'StopIteration'> None
r 0
rps 9 9
x 5 none
0
kbd
<class 'KeyboardInterrupt'> False -1
same object True
method 3 m
pool 3
invalid literal for int() with base 10: 'x'
cond True
True 3 127.0.0.1:9705 True
Struct(a=1) {'a': 1}
h:1
"""
TLS = """\
tls True
tls SSLCertVerificationError
tls b'THREAD'
accept True
"""


def test_tasks_of_one_program_have_all_that_pycos_has(user: User) -> None:
    has_tls = shutil.which("openssl") is not None
    for name in ("own", "other") if has_tls else ():
        key, wanted = str(user.folder / f"{name}.key"), "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        subprocess.run(["openssl", "req", "-x509", *wanted.split(), "-keyout", key,
                        "-out", str(user.folder / f"{name}.pem"), "-subj", f"/CN={name}"],
                       check=True, capture_output=True)  # fmt: skip
    program = start(user, "local.py")
    *lines, info, debug, h, main, late = program.succeed().splitlines()
    assert sorted((*lines, h)) == sorted((LOCAL + TLS * has_tls).splitlines()), program.told()
    assert [line.split(" ", 2)[2] for line in (info, debug)] == ["pycos - info 1", "pycos - dbg"]
    assert (main, late) == ("main ends", "late ends")  # the end of the program waits for its tasks
    assert program.err.count("uncaught exception in failing") == 2


def test_scripts_give_parameters_by_name_call_from_threads_and_end_tasks_in_all_ways(user: User) -> None:
    program = start(user, "habits.py")
    *lines, logged, stays, found = program.succeed().splitlines()
    assert lines == ["tasks None", "channels None", "files None", "threads None"], program.told()
    assert (logged.split(" ", 2)[2], stays, found) == ("mine - at all levels", "stays", "[9, 1]")


REMOTE = """\
['3'] remote.py True
nodes ['127.0.0.1'] servers 2
True ('started', 0, '127.0.0.1')
1
(Result 1, 'hi 0', 'Task')
True ('started', 1, '127.0.0.1')
1
(Result 2, 'hi 1', 'Task')
True ('started', 2, '127.0.0.1')
1
ValueError True
10
11
None
MonitorStatus
0
SOME TEXT
status: NodeInitialized, ServerInitialized, TaskCreated, TaskStarted, failed ValueError, finished
"""


def test_a_script_of_python_2_runs_its_functions_on_servers(user: User) -> None:
    program = start(user, "remote.py", "3", options=("--local", "2"))
    out = program.succeed()
    assert "".join(line for line in out.splitlines(True) if "server-" not in line) == REMOTE, program.told()
    assert "] sent 0" in out  # from a server, to which both other files had come
    assert "no node or server 10.9.8.7 is in use" in program.err
    assert "Traceback" not in program.err, program.told()
    assert "argument 2 ('client') of compute: a dispycos.Lock is for the tasks of one process" in program.err


def test_what_cannot_be_run_is_told_with_its_line(user: User) -> None:
    user.write(
        {
            "two.py": "import pycos\n\nprint 'hello'\n",
            "broken.py": "def f(:\n",
            "raises.py": "raise StopIteration, 3\n",
            "lacks.py": "from pycos import Nonsense\n",
            "calls.py": "import pycos\ndef f(task=None):\n    yield task.nonsense()\npycos.Task(f)\nxrange(3)\n",
            "folder.py/none": "",
            "latin.py": "",
            "binary.py": "",
        }
    )
    (user.folder / "latin.py").write_bytes(
        b"# coding: latin-1\nimport sys\nsys.exit(ascii('\xe9') + str(sys.argv))"
    )
    (user.folder / "binary.py").write_bytes(bytes(range(256)))
    names = ("none", "two", "broken", "raises", "lacks", "calls", "folder", "binary")
    programs = {name: user.command("run", f"{name}.py") for name in names}
    programs["latin"] = user.command("run", "latin.py", "--local", "x")
    codes = {name: program.wait() for name, program in programs.items()}
    assert codes == {**dict.fromkeys(names, 2), "lacks": 1, "calls": 1, "latin": 1}
    assert programs["latin"].err == "'\\xe9'['latin.py', '--local', 'x']\n"
    assert "folder.py: Is a directory" in programs["folder"].err
    assert "a script is text in UTF-8, or its first line names another" in programs["binary"].err
    assert "'Task' object has no attribute 'nonsense'\ndocs/compat.md" in programs["calls"].err
    assert "name 'xrange' is not defined\nthis is Python 2" in programs["calls"].err
    assert "none.py: No such file or directory" in programs["none"].err
    assert "two.py, line 3: Missing parentheses in call to 'print'" in programs["two"].err
    assert all("this is Python 2" in programs[name].err for name in ("two", "raises"))
    assert "broken.py, line 1: invalid syntax" in programs["broken"].err
    assert "docs/compat.md" in programs["lacks"].err


def test_programs_find_each_others_names_without_a_scheduler_and_end_with_their_input(user: User) -> None:
    read, write = os.pipe()
    server = start(user, "name_server.py", stdin=read)
    os.close(read)
    server.wait_line("serves")
    client = start(user, "name_client.py")
    lines = [line for line in client.succeed().splitlines() if line != "peer srv True" and line[:3] != "at "]
    assert lines == [
        *("True True", "1", "reply 0", "1", "reply 1"),
        *("brief 2 2", "file 0 -1", "deleted 0", "close 0 None <class 'KeyboardInterrupt'>"),
        *("True 42", "True <class 'StopIteration'> 42", "1 0", "to all"),
    ], client.told()
    assert "peer srv True" in client.out and "at 127.0.0.1:" in client.out
    assert server.is_alive()
    os.close(write)
    assert server.succeed().splitlines() == [
        *("serves", "got 0 True", "got 1 True", "service task ends", "channel via channel", "channel to all"),
        *("input ends", "server ends", "value None"),
    ]


def test_ctrl_c_ends_tasks_and_the_program(user: User) -> None:
    text = """
    import pycos, sys
    def waits(task=None):
        try:
            yield task.sleep(100)
        except KeyboardInterrupt:
            print('interrupted task')
            raise
    t = pycos.Task(waits)
    print('runs')
    sys.stdout.flush()
    if len(sys.argv) > 1:
        t.value()
    """
    user.write({"waits.py": text})
    programs = [user.command("run", "waits.py"), user.command("run", "waits.py", "blocks")]
    for program in programs:
        program.wait_line("runs")
        program.interrupt()
    assert [program.wait() for program in programs] == [130, 130]
    for program in programs:
        assert program.out.splitlines() == ["runs", "interrupted task"], program.told()
        assert program.err == "interrupted\n"
