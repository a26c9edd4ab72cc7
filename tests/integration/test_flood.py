"""terminate() is not held up by what else is on its way (tests/reliability_flood.py measures it; here a fiftieth of the flood)."""

import re

from tests.kit.programs import ROOT, User

MS_MAX = 500  # on a busy machine; behind all that is sent it would take longer even there


def test_terminate_is_done_behind_a_flood_of_messages_and_behind_large_payloads() -> None:
    with User(DISPYCOS_CPUS="1", PYTHONPATH=str(ROOT)) as user:
        said = user.python("-m", "tests.reliability_flood", "--measure", "50").succeed(60)
    took = [float(worst) for worst in re.findall(r"([\d.]+) ms$", said, re.M)]
    assert len(took) == 5
    assert max(took) < MS_MAX, said
