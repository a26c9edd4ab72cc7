"""More fault schedules than the suite plays: `python -m tests.sim N [first_seed]`; one of a whole cluster, told: `--trace SEED`."""

import sys
import time
from collections.abc import Callable

from tests.kit import cluster, sim

SIMULATORS: list[tuple[str, Callable[[int, int], list[str]]]] = [
    ("sessions", sim.failures),
    ("clusters", cluster.failures),
]


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--trace"]:
        print("\n".join(cluster.story(int(arguments[1]))))
        return 0
    count = int(arguments[0]) if arguments else 2000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    total = 0
    for name, failures in SIMULATORS:
        began = time.process_time()
        found = failures(count, first)
        for failure in found:
            print(failure)
        spent = time.process_time() - began
        print(f"{count} schedules of {name} from seed {first}: {len(found)} failures, {spent:.1f} s CPU")
        total += len(found)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
