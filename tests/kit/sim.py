"""One fault schedule from a seed: a cluster that talks while links break and processes die, and what must hold."""

from collections.abc import Callable

from dispycos.protocol.addresses import Address

from .network import Host, Note, Order, Verdict, Way, World

SIZES = (0, 0, 0, 40, 40, 41, 20_000, 20_001)
BULKY = (300_000, 300_001, 700_001)
TROUBLE = 4.0
REPAIR_MAX = 12.0
SETTLE_MAX = 2.5
FLOODED = 0.05  # of the schedules, since a flood has many messages
FLOOD = 1500  # messages: more than credit allows at once
FLOOD_BYTES = 9_000_000
KINDS = (Note, Note, Note, Note, Note, Order, Order, Verdict)


class Schedule:
    """client - scheduler - nodes - servers, with lanes beside the tree that come and go."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        self.dice = self.world.dice
        self.hosts = self._build()
        self.leaves = [host for host in self.hosts if host.role in ("client", "server")]
        self.lanes = self._choose_lanes()

    def _build(self) -> list[Host]:
        world, dice = self.world, self.dice
        scheduler = Host(world, "scheduler", "scheduler")
        hosts = [scheduler]
        for n in range(dice.choice((1, 1, 2))):
            node = Host(world, f"node{n}", "node")
            node.uplink_to = scheduler
            hosts.append(node)
            for m in range(dice.choice((1, 2))):
                server = Host(world, f"server{n}{m}", "server")
                server.uplink_to = node
                hosts.append(server)
        for n in range(dice.choice((1, 1, 2))):
            client = Host(world, f"client{n}", "client")
            client.uplink_to = scheduler
            hosts.append(client)
        return hosts

    def _choose_lanes(self) -> list[tuple[Host, Host]]:
        """Pairs that may connect directly: client or server with server, client with node, node with node."""
        pairs = []
        for one in self.hosts:
            for other in self.hosts:
                is_lane = one.role in ("client", "server") and other.role == "server"
                is_shortcut = one.role in ("client", "node") and other.role == "node"
                if one is not other and (is_lane or is_shortcut) and one.uplink_to is not other:
                    pairs.append((one, other))
        return self.dice.sample(pairs, min(len(pairs), self.dice.choice((0, 1, 2))))

    # What happens

    def play(self) -> list[str]:
        """Runs all of it; what went wrong, in words."""
        world, dice = self.world, self.dice
        for host in self.hosts:
            host.start()
        world.run(1.0)
        for _ in range(dice.randrange(4, 16)):
            world.after(dice.random() * TROUBLE, self._talk)
        for _ in range(dice.randrange(1, 7)):
            world.after(dice.random() * TROUBLE, self._trouble)
        world.run(1.0 + TROUBLE)
        self._repair()
        world.run(world.now + REPAIR_MAX, self._is_whole)
        if not self._is_whole():
            return [*world.faults, "the links did not come back"]
        world.run(world.now + SETTLE_MAX, self._is_settled)
        if dice.random() < FLOODED:
            self._flood()
        return [*world.faults, *self._lost(), *self._stuck()]

    def _talk(self) -> None:
        """A burst of one host's actors to another's."""
        dice = self.dice
        source, target = dice.sample(self.leaves if dice.random() < 0.8 else self.hosts, 2)
        if source.is_alive and target.life and source.paused_until <= self.world.now:
            size = dice.choice(BULKY) if dice.random() < 0.3 else -1
            for _ in range(dice.choice((1, 3, 10, 90))):
                to = Address(target.router.epoch, 16 + dice.randrange(2))
                kind = dice.choice(KINDS)
                source.send(to, 16 + dice.randrange(2), dice.choice(SIZES) if size < 0 else size, kind)
                size = -1
            source.settle()

    def _flood(self) -> None:
        """More than credit allows of each, and then control words, the first of which is to overtake all that waits."""
        source, target = self.dice.sample(self.leaves, 2)
        to, other = Address(target.router.epoch, 18), Address(target.router.epoch, 19)
        source.send(other, 19, FLOOD_BYTES)
        for _ in range(FLOOD):
            source.send(to, 18, 40)
        source.send(to, 18, 0, Verdict)
        for _ in range(FLOOD):
            source.send(to, 18, 0, Order)
        source.settle()
        world, sender = self.world, source.router.epoch
        is_cut_short = self.dice.random() < 0.5
        if is_cut_short:  # while payloads are on their way, and verdicts wait for them
            world.after(self.dice.random(), lambda: target.forget(sender))
        begun = len(world.log)
        world.run(world.now + REPAIR_MAX, self._is_settled)
        log = world.log[begun:]
        orders = Way(Address(sender, 18), to, Order)
        for notes in (Way(Address(sender, 18), to, Note), Way(Address(sender, 19), other, Note)):
            if (
                not is_cut_short
                and world.sent.get(notes)
                and orders in log
                and notes not in log[log.index(orders) :]
            ):
                world.faults.append(f"a control word has waited for {_show(notes)}")

    def _trouble(self) -> None:
        dice = self.dice
        kinds: list[Callable[[], None]] = [self._cut, self._cut, self._pause, self._lane, self._lane]
        dice.choice([*kinds, self._restart, self._wrongly_dead, self._outage])()

    def _cut(self) -> None:
        wires = [wire for wire in self.world.wires if not wire.is_cut]
        if wires:
            wire = self.dice.choice(wires)
            if self.dice.random() < 0.3:
                wire.is_deaf = True
                self.world.after(self.dice.random() * 2, lambda: wire.cut(slow=True))
            else:
                wire.cut(slow=self.dice.random() < 0.3)

    def _outage(self) -> None:
        """Two hosts cannot connect for a while."""
        host = self.dice.choice([host for host in self.hosts if host.uplink_to is not None])
        assert host.uplink_to is not None
        pair = frozenset((host.name, host.uplink_to.name))
        self.world.down.add(pair)
        for wire in self.world.wires:
            if {wire.dialler.name, wire.listener.name} == pair:
                wire.cut(slow=False)
        self.world.after(self.dice.random() * 3, lambda: self.world.down.discard(pair))

    def _pause(self) -> None:
        host = self.dice.choice(self.hosts)
        if host.is_alive:
            host.pause(self.dice.random() * self.dice.choice((0.5, 5.0)))

    def _lane(self) -> None:
        if self.lanes:
            one, other = self.dice.choice(self.lanes)
            if one.is_alive and one.paused_until <= self.world.now:
                if one.lanes.get(other.name):
                    one.unwant(other)
                else:
                    one.lanes[other.name] = True
                    one.dial(other)

    def _restart(self) -> None:
        host = self.dice.choice(self.hosts)
        if host.is_alive:
            host.kill()
            self.world.after(0.05 + self.dice.random() * 2, host.start)

    def _wrongly_dead(self) -> None:
        """The layer above gives up a peer that lives."""
        host, other = self.dice.sample(self.leaves, 2)
        if host.is_alive and host.paused_until <= self.world.now and other.life:
            host.forget(other.router.epoch)

    def _repair(self) -> None:
        self.world.down.clear()
        for host in self.hosts:
            if host.is_alive:
                host.paused_until = min(host.paused_until, self.world.now)
                host._resume(host.life)

    # What must hold

    def _is_whole(self) -> bool:
        """Every link that is wanted is there, at both ends, and no end takes a dead one for living."""
        for host in self.hosts:
            if not host.is_alive:
                return False
            for wire in host.links.values():
                if wire.is_cut or wire.is_deaf:
                    return False
            wanted = {name for name, is_wanted in host.lanes.items() if is_wanted}
            if host.uplink_to is not None:
                wanted.add(host.uplink_to.name)
            for name in wanted:
                other = self.world.hosts[name]
                if host.router.epoch not in other.neighbours() or other.router.epoch not in host.neighbours():
                    return False
        return True

    def _is_settled(self) -> bool:
        return not self._lost() and not self._stuck()

    def _lost(self) -> list[str]:
        world = self.world
        wrong = []
        for way, got in world.got.items():
            # A verdict lets later words pass while it waits.
            is_wrong = len(set(got)) < len(got) if way.kind is Verdict else got != sorted(set(got))
            if is_wrong:
                wrong.append(f"doubled or out of order: {_show(way)} {_excerpt(got)}")
        for way, sent in world.sent.items():
            missing = set(sent) - set(world.got.get(way, ())) - world.handed.get(way, set())
            may_be_lost = way.kind is Verdict and not self._is_living(way.to)  # confirmed, and waiting there
            if missing and self._is_living(way.sender) and not may_be_lost:
                wrong.append(f"neither arrived nor handed back: {_show(way)} {sorted(missing)[:9]}")
        return wrong

    def _is_living(self, address: Address) -> bool:
        return any(host.is_alive and host.router.epoch == address.epoch for host in self.hosts)

    def _stuck(self) -> list[str]:
        epochs = {host.router.epoch for host in self.hosts}
        return [
            f"{host.name} is stuck with {epoch:x}"
            for host in self.hosts
            for epoch in host.router.busy_peers()
            if epoch in epochs
        ]


def _show(way: Way) -> str:
    (source, actor), (target, other), kind = way
    return f"{kind.__name__} of {source:x}/{actor} to {target:x}/{other}"


def _excerpt(got: list[int]) -> str:
    for index, n in enumerate(got):
        if index and n <= got[index - 1]:
            return f"... {got[max(0, index - 3) : index + 4]}"
    return str(got[:9])


def failures(count: int, first: int = 0) -> list[str]:
    """Plays schedules; each failure names the seed that repeats it."""
    found = []
    for seed in range(first, first + count):
        wrong = Schedule(seed).play()
        if wrong:
            found.append(f"seed {seed}: {'; '.join(wrong[:3])}")
    return found
