"""The names of pycos.config: numbers that scripts read. To set them has no effect: options of the commands do."""

from typing import Any

from dispycos.config import MAX_PULSE_INTERVAL, MIN_PULSE_INTERVAL, NODE_PORT, SCHEDULER_PORT

NetPort: Any = SCHEDULER_PORT
DispycosSchedulerPort: Any = SCHEDULER_PORT
DispycosNodePort: Any = NODE_PORT
MinPulseInterval: Any = MIN_PULSE_INTERVAL
MaxPulseInterval: Any = MAX_PULSE_INTERVAL
MsgTimeout: Any = 10
ConnectTimeout: Any = 5
PickleProtocolVersion: Any = None  # the highest
IPv4_MulticastGroup: Any = "239.255.97.5"
IPv6_MulticastGroup: Any = "ff05::674f:48ba:b409:3171:9705"


def __getattr__(name: str) -> Any:
    from .names import LACKS

    raise AttributeError(f"pycos.config has no {name!r} here: {LACKS}")
