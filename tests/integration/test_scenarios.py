"""The scripts of scenarios, each played once with a client at two nodes that were started by hand; one test per scenario."""

from __future__ import annotations

import pytest

from tests.conftest import Report, report_of, scenarios_of
from tests.kit.programs import User

PLAYED = (
    "functions.py",
    "client_api.py",
    "messages.py",
    "mailboxes.py",
    "steps.py",
    "terminate.py",
    "payloads.py",
    "deaths.py",
    "futures.py",
    "nested.py",
    "passing.py",
    "options.py",
    "files.py",
)

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize(
    ("script", "scenario"),
    [
        pytest.param(script, name, id=f"{script[:-3]}-{name[5:]}")
        for script in PLAYED
        for name in scenarios_of(script)
    ],
)
def test_scenario(script: str, scenario: str, cluster: User, reports: dict[str, Report]) -> None:
    report_of(script, cluster, reports).check(scenario)


@pytest.mark.parametrize("script", PLAYED)
def test_its_client_ends_well(script: str, cluster: User, reports: dict[str, Report]) -> None:
    report = report_of(script, cluster, reports)
    assert report.code == 0, report.program.told()


def test_a_status_task_hears_of_nodes_servers_tasks_and_the_end(cluster: User) -> None:
    from tests.conftest import SCRIPTS

    said = cluster.python(str(SCRIPTS / "statuses.py")).succeed()
    assert said.splitlines() == [
        "nodes and servers", "a task", "a failure", "a termination", "a death", "many tasks", "the end",
    ]  # fmt: skip
