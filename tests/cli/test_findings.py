"""What doctor makes of facts: each fact is told, and what is wrong with what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dispycos.cli.findings import (
    Cluster,
    Echo,
    Finding,
    Holder,
    Installation,
    Interfaces,
    Library,
    Limits,
    Machine,
    Member,
    Peer,
    Place,
    is_older,
    of_clock,
    of_cluster,
    of_folders,
    of_installation,
    of_interfaces,
    of_limits,
    of_machine,
    of_multicast,
    of_peers,
    of_ports,
    of_secret,
)

MIB = 1 << 20
ZMQ = Library("pyzmq", "26.2", "26", note="libzmq 4.3.5")
GOOD = Installation("0.1.0", "3.12.1", "3.11", libraries=(ZMQ, Library("dill", "0.4", "0.3.8")))
ROOMY = Limits(4096, 8192, threads=1000, threads_used=10, shared=1 << 30)


def levels(found: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.level) for one in found]


def wrong(found: list[Finding]) -> Finding:
    """The only one that is not well; it says what to do."""
    (one,) = [one for one in found if one.level != "ok"]
    assert one.remedy
    return one


def test_what_is_installed_is_told_with_its_releases() -> None:
    python, libraries = of_installation(GOOD)
    assert python == Finding("python", "ok", "3.12.1, dispycos 0.1.0")
    assert libraries == Finding("libraries", "ok", "pyzmq 26.2 (libzmq 4.3.5), dill 0.4")


@pytest.mark.parametrize(
    ("library", "text", "remedy"),
    [
        (Library("dill", "", "0.3.8"), "dill is not installed", "pip install 'dill>=0.3.8'"),
        (Library("dill", "0.3.7", "0.3.8"), "dill 0.3.7 is older than 0.3.8", "pip install 'dill>=0.3.8'"),
        (
            Library("dill", "0.4", "", "ImportError: x"),
            "dill 0.4 cannot be imported: ImportError: x",
            "pip install --force",
        ),
    ],
)
def test_a_library_that_will_not_do_is_named(library: Library, text: str, remedy: str) -> None:
    found = wrong(of_installation(replace(GOOD, libraries=(ZMQ, library))))
    assert (found.check, found.level, found.text) == ("libraries", "error", text)
    assert found.remedy.startswith(remedy)


def test_a_libzmq_without_curve_and_an_old_python_stop_dispycos() -> None:
    assert "CURVE" in wrong(of_installation(replace(GOOD, has_curve=False))).text
    found = wrong(of_installation(replace(GOOD, python="3.9.18")))
    assert (found.level, found.text) == ("error", "3.9.18 is too old")


def test_a_python_without_the_gil_is_a_warning() -> None:
    (found, *_) = of_installation(replace(GOOD, has_gil=False))
    assert (found.check, found.level) == ("python", "warning")


@pytest.mark.parametrize(
    ("release", "least", "older"),
    [
        ("26.2", "26", False),
        ("9.10", "10", True),
        ("0.3.10", "0.3.8", False),
        ("3.15.0rc1", "3.11", False),
        ("1.0", "", False),
        ("1", "1.1", True),
    ],
)
def test_releases_are_compared_by_their_numbers(release: str, least: str, older: bool) -> None:
    assert is_older(release, least) is older


def test_fewer_cpus_than_the_machine_has_are_explained() -> None:
    assert of_machine(Machine(4, 4, 8 << 30, 4 << 30))[0].text == "4 servers by default, one a CPU"
    cpus, _ = of_machine(Machine(2, 64, 8 << 30, 4 << 30))
    assert cpus.level == "ok" and "has 64, of which we are allowed 2" in cpus.text


def test_little_memory_is_a_warning_that_says_for_how_many_servers_it_is_enough() -> None:
    found = wrong(of_machine(Machine(8, 8, 1 << 30, 200 * MIB)))
    assert (found.check, found.level) == ("memory", "warning")
    assert found.remedy.endswith("dispycos node --cpus 3")


def test_enough_of_everything_is_well() -> None:
    assert levels(of_limits(ROOMY, 4)) == [("open files", "ok"), ("processes", "ok"), ("/dev/shm", "ok")]
    assert levels(of_limits(Limits(None, None), 4)) == [("open files", "ok")]


@pytest.mark.parametrize(
    ("soft", "hard", "cpus", "level"),
    [
        (39, 8192, 2, "error"),
        (40, 8192, 2, "warning"),
        (95, 8192, 16, "error"),
        (255, None, 2, "warning"),
        (256, None, 2, "ok"),
    ],
)
def test_open_files_have_to_be_enough_for_the_servers(
    soft: int, hard: int | None, cpus: int, level: str
) -> None:
    found = of_limits(replace(ROOMY, files=soft, files_hard=hard), cpus)[0]
    assert found.level == level
    assert level == "ok" or found.remedy == "ulimit -n 1024"


def test_a_hard_limit_is_raised_elsewhere() -> None:
    assert "limits.conf" in wrong(of_limits(replace(ROOMY, files=64, files_hard=64), 2)).remedy


@pytest.mark.parametrize(("used", "level"), [(984, "ok"), (985, "warning"), (988, "warning"), (989, "error")])
def test_processes_have_to_be_enough_for_the_servers(used: int, level: str) -> None:
    found = of_limits(replace(ROOMY, threads_used=used), 2)[1]
    assert (found.check, found.level) == ("processes", level)


@pytest.mark.parametrize("shared", [0, MIB])
def test_a_tiny_shared_memory_is_a_warning_since_others_need_it(shared: int) -> None:
    found = wrong(of_limits(replace(ROOMY, shared=shared), 2))
    assert (found.check, found.level) == ("/dev/shm", "warning")
    assert ("not there" in found.text) is (shared == 0)


def test_a_folder_that_cannot_be_used_or_is_full_stops_dispycos() -> None:
    good = Place("sockets", "/run/x", free=1 << 30)
    assert of_folders([good], ()) == [Finding("folders", "ok", "sockets: /run/x (1.0 GiB left)")]
    found = wrong(of_folders([good, Place("sockets", "/y", "others can see into it", "chmod 700 /y")], ()))
    assert found == Finding("folders", "error", "sockets: /y: others can see into it", "chmod 700 /y")
    assert wrong(of_folders([replace(good, free=1)], ())).level == "error"
    assert wrong(of_folders([replace(good, free=100 * MIB)], ())).level == "warning"
    assert wrong(of_folders([good], ["there is no home folder"])).text == "there is no home folder"


@pytest.mark.parametrize(
    ("now", "filed", "level", "text"),
    [
        (1000.0, 1000.5, "ok", "as that of the file system"),
        (1000.0, 1010.0, "warning", "dated 10 s ahead"),
        (1000.0, 990.0, "warning", "dated 10 s back"),
        (100.0, 100.0, "warning", "before the time at which dispycos was installed"),
    ],
)
def test_a_clock_that_is_wrong_is_seen_by_files(now: float, filed: float, level: str, text: str) -> None:
    found = of_clock(now, filed, 500.0)
    assert found.level == level and text in found.text


def test_where_the_secret_is_or_will_be_is_told() -> None:
    assert of_secret("DISPYCOS_SECRET", "/x").text.startswith("from DISPYCOS_SECRET")
    assert of_secret("", "/x").text.endswith("makes it in /x")


def test_the_address_that_others_are_told_first_is_in_front() -> None:
    (found,) = of_interfaces(Interfaces({"10.0.0.5": "eth0", "172.17.0.1": "docker0", "127.0.0.1": "lo"}))
    assert found.level == "ok"
    assert found.text.startswith("10.0.0.5 (eth0); others are told, too: 172.17.0.1 (docker0); --ip_addr")
    assert of_interfaces(Interfaces({"10.0.0.5": "eth0", "::1": "lo"}))[0].text == "10.0.0.5 (eth0)"


def test_loopback_alone_and_no_interface_are_warnings_and_what_was_chosen_is_well() -> None:
    assert (
        "only 127.0.0.1 (lo), ::1 (lo)"
        in wrong(of_interfaces(Interfaces({"127.0.0.1": "lo", "::1": "lo"}))).text
    )
    assert "not even loopback" in wrong(of_interfaces(Interfaces({}))).text
    assert (
        of_interfaces(Interfaces({"127.0.0.5": ""}, is_restricted=True))[0].text == "127.0.0.5, by --ip_addr"
    )


def test_multicast_that_does_not_come_back_is_named_by_its_address() -> None:
    assert of_multicast(Echo(["10.0.0.5"], ["10.0.0.5"])).level == "ok"
    found = of_multicast(Echo(["10.0.0.5", "10.1.0.5"], ["10.0.0.5"]))
    assert found.level == "warning" and "sent from 10.1.0.5 does not" in found.text and "5353" in found.remedy
    assert of_multicast(Echo(trouble="a stranger has it")).text == "no mDNS: a stranger has it"


def test_ports_are_free_or_ours_or_taken() -> None:
    assert [one.level for one in of_ports(None, {9706: None, 9707: None})] == ["ok", "ok"]
    ours = Holder("node ash (pid 7)", True)
    found = of_ports(Holder("scheduler elm (pid 8)", True), {9706: ours, 9707: ours, 9708: None})
    assert [one.level for one in found] == ["ok", "ok"]
    assert "that of scheduler elm (pid 8)" in found[0].text and "those of node ash (pid 7)" in found[1].text
    taken = of_ports(Holder("nginx (pid 9)", False), {9706: ours, 9707: Holder("sshd", False)})
    assert [one.level for one in taken] == ["warning", "warning"]
    assert "taken by nginx (pid 9)" in taken[0].text and "--tcp_port" in taken[0].remedy
    assert "taken: 9707 by sshd" in taken[1].text and "--tcp_ports" in taken[1].remedy


def test_a_host_that_was_named_and_does_not_answer_is_an_error() -> None:
    assert of_peers([Peer("elm", {9705: "nobody listens there", 9706: ""})]) == [
        Finding("peer", "ok", "elm: reached by TCP at port 9706")
    ]
    found = wrong(of_peers([Peer("elm", {9705: "no answer", 9706: "nobody listens there"})]))
    assert (
        found.level == "error" and found.text == "elm: port 9705: no answer; port 9706: nobody listens there"
    )
    assert wrong(of_peers([Peer("elm", trouble="elm is not known")])).text == "elm: elm is not known"


def test_who_is_there_is_told_and_an_empty_network_is_well() -> None:
    (found,) = of_cluster(Cluster(), (3, 12))
    assert found.level == "ok" and "no scheduler and no node" in found.text
    node = Member("node", "ash", "10.0.0.7:9706", (3, 12))
    assert of_cluster(Cluster([node]), (3, 12)) == [
        Finding("cluster", "ok", "node ash at 10.0.0.7:9706, Python 3.12")
    ]


def test_a_node_of_another_python_is_a_warning_with_what_to_run_there() -> None:
    found = wrong(of_cluster(Cluster([Member("node", "ash", "10.0.0.7:9706", (3, 11))]), (3, 12)))
    assert found.text == "node ash at 10.0.0.7:9706 runs Python 3.11, this program 3.12"
    assert found.remedy == "run `dispycos node` there with Python 3.12"


def test_other_secrets_and_silent_nodes_are_named() -> None:
    node = Member("node", "ash", "10.0.0.7:9706", (3, 12))
    seen = Cluster([node], foreign=[Member("scheduler", "elm", "10.0.0.8:9705")])
    assert "scheduler elm at 10.0.0.8:9705 has another secret" in wrong(of_cluster(seen, (3, 12))).text
    seen = Cluster([node], silent=[Member("node", "oak", "10.0.0.9:9706", note="free")])
    assert "node oak at 10.0.0.9:9706, free by what" in wrong(of_cluster(seen, (3, 12))).text
    refused = wrong(of_cluster(Cluster(refused="tcp://elm:9705: it has another secret"), (3, 12)))
    assert refused.level == "error" and "copy the secret" in refused.remedy
