"""`dispycos run` with scripts of dispy: they run as they are, and what hung dispy ends with a text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.programs import User, port_of

pytestmark = pytest.mark.timeout(90)

SCRIPTS = Path(__file__).parents[1] / "scripts" / "dispy"

TYPICAL = r"""http://127\.0\.0\.1:\d+/\S*
(127\.0\.0\.1 executed job [0-5] at True with True
'computed [1-3]\\n' 'err [1-3]\\n' None True
){6}
            Node \|  CPUs \|    Jobs \|  Sec/Job \| Node Time Sec \|    Sent \|    Rcvd
-{81}
 +\S+ \|     2 \|       6 \|      0\.\d \| +[01]\.\d \| +[\d.]+ [BK] \| +[\d.]+ [BK]

Total job time: [01]\.\d{3} sec, wall time: \d+\.\d{3} sec, speedup: \d\.\d{3}

True None
"""

JOBS = """\
raise None 9 ValueError: bad 5
exit None 9 SystemExit: left
_exit None 9 exited with code 3 while it ran fails
kill None 9 was killed by SIGKILL (9) while it ran fails
iterator None 9 NotPicklable: the value of fails: cannot pickle '_io.TextIOWrapper' object
names ('127.0.0.1', 'one', True) 11 None
('given', 'data 7') 127.0.0.1 True
('more', 'data 7')
None
True 5
job() blocks, and so it is for threads
wait() blocks, and so it is for threads
close() blocks, and so it is for threads
given
None 8 NotPicklable: argument 2 ('args') of fails: cannot pickle '_thread.lock' object
[0, 0, 0] -1
[(None, 9), ('caught', 11), (None, 8)]
(0, -1) 400000
True True
127.0.0.1 2 0 0 here there None
cleanup 7 data 7
499500 {11} [(0, 1000)]
cleanup 7 data 7
again True
6 [('job', 5), ('job', 6), ('job', 7), ('job', 8), ('job', 9), ('job', 11), ('node', 4)]
False False
cleanup 7 data 7
True None 9
None 9 True
raised 'body'
12
4 b"['1', 'b']\\n" 11
TypeError computation must be a function or the path of a program, not int
FileNotFoundError computation: there is no program /no/such/prog
TypeError JobCluster() has no parameter 'bogus' here: see docs/compat.md of dispycos
TypeError job_status must take 1 argument
True []
"""


RECOVERED = """\
2 True 11 None ended 2
3 True 11 None ended 3
None True 9 ValueError: bad 4 ended 4
"""

NODES = """\
-1 -1 -1 -1 -1 -1 -1 0
[4, 2] 127.0.0.1 2 2
node_jobs True 2
[None, None, None] [9, 9, 8]
send_file 0 ('data1', 'sent')
set_node_cpus [2, 1, 0]
False 1 ('data1', None)
[6, 5] 2 ['data1', 'data1']
deallocate_node 0
False 0 ('data1', None)
resetup_node 0 ('data2', None)
close_node 0 None 9
False 0 None None
True True
0 None 2 None 4 None 6 None 8 None True
[0, 1, 2, 3, 4] {}
[6, 6, 6, 6] [1, 1]
submit_node 8 10 0
False 0 12 14 0 None
False 0 16 True True
"""


def write(user: User, name: str) -> str:
    user.write({name: (SCRIPTS / name).read_text()})
    return name


def test_a_typical_script_runs_as_it_is_and_one_without_nodes_says_so(user: User) -> None:
    lonely = user.command("run", write(user, "no_node.py"))
    out = user.command("run", "--local", "2", write(user, "typical.py")).succeed(30)
    assert re.fullmatch(TYPICAL, out), out
    lonely.wait_line("no node found: start `dispycos node`")
    lonely.interrupt()
    assert lonely.wait() == 130


def test_jobs_end_with_a_text_however_they_end_and_clusters_lend_each_other_their_nodes(user: User) -> None:
    port = port_of(user.scheduler())
    user.node("one", cpus=2)
    out = user.command("run", write(user, "jobs.py"), str(port)).succeed(50)
    named = re.sub(r"^\[\S+/server-\d\] ", "", out, flags=re.MULTILINE)
    assert re.sub(r"server \S+/server-\d ", "", named) == JOBS
    assert not list(user.folder.glob("_dispy_*"))
    first = user.command("run", write(user, "shared.py"), str(port), "first")
    first.wait_line("first 1")
    # It lends its node.
    assert user.command("run", "shared.py", str(port)).succeed(20) == "other 1\nother 2\n"
    assert first.succeed() == "first 1\nfirst 2\n"


def test_a_script_has_nodes_closed_set_up_anew_and_limited_and_each_has_its_own_files(user: User) -> None:
    assert user.command("run", "--local", "2", write(user, "nodes.py")).succeed(50) == NODES


def test_what_jobs_gave_is_recovered_when_their_program_was_killed(user: User) -> None:
    killed = user.command("run", "--local", "2", write(user, "killed.py"))
    killed.wait_line("three have ended")
    killed.kill()
    again = user.command("run", "killed.py", "recover")
    assert again.succeed() == RECOVERED
    assert again.err == "dispycos: recover_jobs(): 2 other jobs ended with their program\n"
