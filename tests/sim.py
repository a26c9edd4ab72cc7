"""More fault schedules than the suite plays: `python -m tests.sim N [first_seed]`."""

import sys
import time

from tests.kit.sim import failures


def main(arguments: list[str]) -> int:
    count = int(arguments[0]) if arguments else 2000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    began = time.process_time()
    found = failures(count, first)
    for failure in found:
        print(failure)
    spent = time.process_time() - began
    print(f"{count} schedules from seed {first}: {len(found)} failures, {spent:.1f} s CPU")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
