"""`python -m tests.mutants [AREA ...]`: plants small faults in the product, one at a time, and reports which the tests do not see.

Each is one line changed as a tired person would get it wrong. A copy of the tree gets it, and the tests of its area are run there,
without simulators: these find faults of their own (tests/kit/*_bugs.py). A fault that survives is a missing test, or no fault:
then it has no place here. tests/test_mutants.py sees that each still fits the code.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[1]
LIMIT_S: Final = 300.0  # then the tests hang, which is seen as well


class Mutant(NamedTuple):
    """`old` is found once in `file`."""

    area: str
    file: str
    old: str
    new: str


TESTS: Final = {
    "dispatch": ["tests/dispatching", "tests/client/test_ledger.py"],
    "session": ["tests/session"],
    "scheduler": ["tests/brokers", "tests/scenarios/test_scheduler_stories.py"],
    "node": ["tests/node", "tests/scenarios/test_node_stories.py"],
    "control": [
        "tests/client/test_control.py",
        "tests/client/test_status.py",
        "tests/brokers",
        "tests/node/test_agent.py",
    ],
    "server": ["tests/server", "tests/tasks"],
    "shipping": ["tests/shipping", "tests/tasks/test_results.py"],
    "sharing": ["tests/sharing"],
}

PLACEMENT, GIVING = "actors/dispatching/placement.py", "actors/dispatching/giving.py"
RECALLING, DISPATCH = "actors/dispatching/recalling.py", "actors/dispatching/dispatch.py"
FACTS = "actors/dispatching/facts.py"
SESSION, STREAM = "dispycos/session/session.py", "dispycos/session/stream.py"
LEASING, SCHEDULER, WAITING = "brokers/leasing.py", "brokers/scheduler.py", "brokers/waiting.py"
SUPERVISOR, AGENT = "actors/node/supervisor.py", "actors/node/agent.py"
TERMINATIONS = "actors/node/terminations.py"
QUEUE = "actors/server/queue.py"
CONTROL, STATUS, SHARING = "actors/client/control.py", "actors/client/status.py", "brokers/sharing.py"
STATEMENTS, ITEMS = "actors/shipping/statements.py", "actors/shipping/items.py"
PICKLING = "actors/shipping/pickling.py"
BOOK, HUB, LOCKS, CHANNEL = (f"actors/sharing/{name}.py" for name in ("book", "hub", "locks", "channel"))
NAMES = "actors/sharing/names.py"

MUTANTS: Final = [
    Mutant("dispatch", PLACEMENT, "server.work_s > away + AHEAD_S or", "server.work_s >= 0 or"),
    Mutant("dispatch", PLACEMENT, "len(server.cpu) < TOGETHER_MAX", "len(server.cpu) <= TOGETHER_MAX"),
    Mutant("dispatch", PLACEMENT, "        and not entry.alone\n", ""),
    Mutant("dispatch", PLACEMENT, "(IO_MAX if server.cpu else 0)", "0"),
    Mutant(
        "dispatch",
        GIVING,
        "if head is None or head.alone or server is None:",
        "if head is None or server is None:",
    ),
    Mutant("dispatch", RECALLING, "behind[0].position - 1))", "behind[0].position))"),
    Mutant("dispatch", DISPATCH, "if entry not in begun and not entry.placed:", "if entry not in begun:"),
    Mutant(
        "dispatch", DISPATCH, "return entry.attempt <= entry.retries", "return entry.attempt < entry.retries"
    ),
    Mutant("dispatch", FACTS, "sorted(ours, key=_turn_of)", "ours"),
    Mutant("session", SESSION, "if parcel.seq > mark:", "if parcel.seq >= mark:"),
    Mutant(
        "session", SESSION, "if not 0 < hello.incarnation < 2**32:", "if not 0 <= hello.incarnation < 2**32:"
    ),
    Mutant("session", SESSION, "if self._asked and hello.echo == self._probe:", "if self._asked:"),
    Mutant(
        "session", SESSION, "if block.stream >= len(self._streams):", "if block.stream > len(self._streams):"
    ),
    Mutant(
        "session",
        SESSION,
        "if not is_new or self._unacked_blocks >= ACK_BLOCKS:",
        "if self._unacked_blocks >= ACK_BLOCKS:",
    ),
    Mutant(
        "session",
        SESSION,
        "if hello.incarnation > self._peer_incarnation:",
        "if hello.incarnation >= self._peer_incarnation:",
    ),
    Mutant(
        "scheduler",
        LEASING,
        "elif node.state is NodeState.OPEN and word.closing:",
        "elif word.closing and False:",
    ),
    Mutant("scheduler", LEASING, "if node is None or node.lease != word.lease:", "if node is None:"),
    Mutant(
        "scheduler",
        LEASING,
        "        if not lives:\n            self.alarms.set(self.on_node_forgotten",
        "        if lives:\n            self.alarms.set(self.on_node_forgotten",
    ),
    Mutant(
        "scheduler",
        SCHEDULER,
        "if not client.away and not client.looking), None)",
        "if not client.looking), None)",
    ),
    Mutant(
        "scheduler", SCHEDULER, "if client.heard_at + CLIENT_PATIENCE_S > now:", "if client.heard_at > now:"
    ),
    Mutant(
        "scheduler",
        SCHEDULER,
        "return OUTDATED if had.number < self.registry.newest else",
        "return OUTDATED if had.number <= self.registry.newest else",
    ),
    Mutant("scheduler", WAITING, "return not node.share.is_hopeless\n", "return True\n"),
    Mutant(
        "node",
        SUPERVISOR,
        "if granted is not None and envelope.sender != granted.home:",
        "if granted is None:",
    ),
    Mutant(
        "node",
        SUPERVISOR,
        "            place.in_vain = 0  # what failed without a zygote was not the servers' fault\n",
        "",
    ),
    Mutant(
        "node",
        SUPERVISOR,
        '        said = "" if closing or again or place.failed else',
        '        said = "" if closing or place.failed else',
    ),
    Mutant("node", AGENT, "count = min(message.cpus, len(self._ports))\n", "count = message.cpus\n"),
    Mutant(
        "node",
        AGENT,
        "elif message.client.python != self.info.python:",
        "elif message.client.python > self.info.python:",
    ),
    Mutant("node", TERMINATIONS, "max(running.at, step.since / 1e9) + KILL_AFTER", "running.at + KILL_AFTER"),
    Mutant("node", SUPERVISOR, "if for_step and (culprit", "if (culprit"),
    Mutant("node", TERMINATIONS, "if position in watch.asked:", "if watch.asked:"),
    Mutant(
        "server",
        QUEUE,
        "message.position > envelope.message.after:",
        "message.position >= envelope.message.after:",
    ),
    Mutant(
        "server",
        QUEUE,
        "if self._cpu and not self._holding:\n            return",
        "if self._cpu:\n            return",
    ),
    Mutant("server", QUEUE, "if parent in self.aside and not running.waits_for:", "if parent in self.aside:"),
    Mutant("server", QUEUE, "        if not running.interrupted:\n", "        if True:\n"),
    Mutant("server", QUEUE, "        self._holding.add(run.task)\n", ""),
    Mutant(
        "server", QUEUE, "if self._is_ending and not self.running:", "if self.draining and not self._holding:"
    ),
    Mutant(
        "shipping",
        STATEMENTS,
        "return frozenset(annotation_names(self.node)).union(*found) - MAIN_DUNDERS",
        "return frozenset[str]().union(*found) - MAIN_DUNDERS",
    ),
    Mutant("shipping", STATEMENTS, "return flags & FUTURE_FLAGS", "return 0"),
    Mutant("shipping", ITEMS, "if unit.is_certain and name not in unit.needs_now:", "if unit.is_certain:"),
    Mutant("shipping", ITEMS, "or name in self._rebound\n", "\n"),
    Mutant(
        "control", CONTROL, "        if not any(busy(spot.epoch) for spot in there):\n", "        if True:\n"
    ),
    Mutant("control", CONTROL, " or node in self._renewing:", ":"),
    Mutant("control", CONTROL, "if there or not closing.again:", "if there:"),
    Mutant("control", CONTROL, "        if where in self._suspended:\n", "        if False:\n"),
    Mutant("control", SUPERVISOR, "            place.closed = not (leaving.again or granted.renewing)\n", ""),
    Mutant("control", SUPERVISOR, "if not (place.closed or granted.renewing):", "if not granted.renewing:"),
    Mutant("control", SUPERVISOR, "            leaving.again = again\n", ""),
    Mutant("control", SUPERVISOR, "step.since / 1e9 + KILL_AFTER <= now:", "step.since / 1e9 <= now:"),
    Mutant("control", SHARING, "            client.asked.add((node.epoch, entry))\n", ""),
    Mutant(
        "control",
        SHARING,
        "        if held is not None and node.epoch in client.closed:\n",
        "        if False:\n",
    ),
    Mutant("control", SHARING, "        client.closed.add(word.node)\n", ""),
    Mutant("control", STATUS, "return max(count, -1)", "return abs(count)"),
    Mutant("shipping", PICKLING, "if self._spare is not None:", "if False:"),
    Mutant(
        "shipping",
        PICKLING,
        "    for name, value in (slots | links).items():",
        "    for name, value in slots.items():",
    ),
    Mutant("sharing", BOOK, "scheduler is not None and question.number:", "scheduler is not None:"),
    Mutant(
        "sharing",
        BOOK,
        "question.until is not None and question.until <= now:",
        "question.until is not None:",
    ),
    Mutant("sharing", BOOK, "if not word.addr or self._is_at(epoch, word):", "if True:"),
    Mutant("sharing", BOOK, "where in (node.name, node.addr,", "where in (node.name,"),
    Mutant("sharing", BOOK, "now + AGAIN_S if self._questions else None", "None"),
    Mutant("sharing", BOOK, "(word.asker or envelope.sender, envelope", "(envelope.sender, envelope"),
    Mutant("sharing", BOOK, "if asked[0].epoch == epoch]:", "if False]:"),
    Mutant("sharing", BOOK, "if task.epoch == epoch]:", "if False]:"),
    Mutant("sharing", HUB, "self.reached >= n if n else not self.awaited", "self.reached >= n"),
    Mutant("sharing", HUB, "in self._deliveries_of(hub) if is_new else ():", "in list[Delivery]():"),
    Mutant("sharing", HUB, "in self._deliveries_of(hub) if is_new else ():", "in self._deliveries_of(hub):"),
    Mutant("sharing", HUB, "hub.transforms or hub.behind:", "hub.transforms:"),
    Mutant("sharing", HUB, "[*asked.via, hub.address]", "[hub.address]"),
    Mutant(
        "sharing",
        HUB,
        "discard(who)\n            self._drop(hub, who)",
        "discard(who)\n            del hub.subscribers[who]",
    ),
    Mutant(
        "sharing",
        HUB,
        "            self._reach_nobody(request)\n            return\n",
        "            return\n",
    ),
    Mutant("sharing", LOCKS, "                pass_on()\n", "                pass\n"),
    Mutant("sharing", LOCKS, "        me.add_done_callback(self._see_end)\n", ""),
    Mutant(
        "sharing",
        LOCKS,
        "return self._owner is not None and self._owner is _running_task()",
        "return self._owner is not None",
    ),
    Mutant(
        "sharing",
        LOCKS,
        "            await self._take_again(depth)\n            raise\n",
        "            raise\n",
    ),
    Mutant(
        "sharing", LOCKS, "self._line.wait(timeout, self._line.call_next)", "self._line.wait(timeout, list)"
    ),
    Mutant(
        "sharing",
        LOCKS,
        "        await self._take_again(depth)\n        return",
        "        await self._take_again(1)\n        return",
    ),
    Mutant(
        "sharing", NAMES, "            cell.at_end(partial(self.unregister, task))\n", "            pass\n"
    ),
    Mutant("sharing", NAMES, "revoked_by=over", "revoked_by=None"),
    Mutant("sharing", CHANNEL, "self._is_transforming = bool(self._waiting)", "pass"),
    Mutant("sharing", CHANNEL, "revoked_by=over", "revoked_by=None"),
]


def plant(mutant: Mutant, root: Path) -> None:
    """Raises ValueError if the code is another one meanwhile."""
    file = root / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.file} has {text.count(mutant.old)} times {mutant.old!r}, not once")
    file.write_text(text.replace(mutant.old, mutant.new))


def copy_tree(to: Path) -> None:
    """What the version control knows, as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name, follow_symlinks=False)


def seen_by(mutant: Mutant) -> str:
    """The first test that fails; '' if none does."""
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        plant(mutant, Path(folder))
        command = [sys.executable, "-m", "pytest", "-q", "-x", *TESTS[mutant.area]]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            return "the tests hang"
    if not done.returncode:
        return ""
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0] if failed else done.stdout[-200:]


def main(areas: list[str]) -> int:
    survived = []
    chosen = [mutant for mutant in MUTANTS if not areas or mutant.area in areas]
    for mutant in chosen:
        began = time.monotonic()
        by = seen_by(mutant)
        said = by.removeprefix("FAILED ").partition(" - ")[0] if by else "SURVIVES"
        what = f"{mutant.file}: {mutant.old.strip()!r} -> {mutant.new.strip()!r}"
        print(f"{mutant.area:<10} {time.monotonic() - began:5.1f} s  {what}\n{'':20}{said}", flush=True)
        survived += [] if by else [mutant]
    print(f"{len(chosen)} planted, {len(chosen) - len(survived)} found")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
