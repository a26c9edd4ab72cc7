"""Channels: what is sent to one goes to all tasks that subscribe to it, wherever they are."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from typing import Any, Self

from dispycos.errors import ChannelClosed
from dispycos.protocol import messages
from dispycos.protocol.addresses import CHANNELS, Address, Location
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.session.router import Event
from dispycos.values import natural_number, wait_time

from ..tasks.current import current_host
from ..tasks.ends import Raised, brief, plain
from ..tasks.host import TaskHost
from ..tasks.results import open_value
from ..tasks.submitting import Task
from .hub import Follow, Hubs, Pass, Transform
from .names import must_be_name

ANSWER_S = 1.0  # beyond its timeout deliver() waits so long for the number of those who have the message

Transformer = Callable[[str, Any], Any]


class Channel:
    """Sends each message on to all that subscribe: tasks and other channels, here and in other processes.

    It lives in the process where it is made, until it is closed or the process ends; it can be sent to others, in messages,
    arguments and results, and works from wherever it arrives. Messages of one sender arrive in their order. Who subscribes
    to two channels of which one subscribes to the other gets them twice.

    Parameters
    ----------
    name: for people, and to be found by once it is registered. It begins with a letter or digit.
    transform: called as ``transform(name, message)`` with each message, in the channel's process; what it returns, or what the
        awaitable that it returns gives, goes to the subscribers, and None goes nowhere. What it raises is logged, and the
        message goes nowhere.

    Raises
    ------
    TypeError, ValueError: `name` is none, or `transform` cannot be called so. RuntimeError: no event loop runs here.
    """

    __slots__ = ("_host", "address", "location", "name")

    @plain
    def __init__(self, name: str, transform: Transformer | None = None) -> None:
        must_be_name(name)
        if not name[0].isalnum():
            raise ValueError(f"the name of a channel must begin with a letter or a digit, not {name!r}")
        _must_transform(transform)
        host: TaskHost = current_host()
        address = host.sharing.channels.open(transform, self)
        self._bind(host, address, name, host.place)

    def _bind(self, host: TaskHost, address: Address, name: str, location: Location | None) -> Self:
        self._host = host
        self.address: Address = address
        self.name: str = name
        self.location: Location | None = location  # of the server where it was made; None: a client
        return self

    # --- messages ---

    @plain
    def send(self, message: Any) -> int:
        """Send it to all that subscribe. Returns 0 at once.

        Raises
        ------
        NotPicklable: naming what in the message cannot be pickled.
        """
        host = self._host
        payload = host.payloads.dumps(message, f"the message to channel {self.name}")
        word = messages.Publish(host.payloads.version())
        host.post(Envelope(self.address, host.me(), word, 0, payload))
        return 0

    @brief
    async def deliver(self, message: Any, timeout: float | None = None, n: int = 0) -> int:
        """Send it, and wait until all that subscribe now have it in their mailboxes, or `n` have it. Returns how many have it.

        Where fewer subscribe those who do so meanwhile get it, too. Of a channel that subscribes its subscribers count.

        Parameters
        ----------
        timeout: seconds; then the number may be less than `n`, and the message may still arrive. None: for ever.

        Raises
        ------
        NotPicklable: naming what in the message cannot be pickled. TypeError, ValueError: `n` is no count.
        """
        n, host, timeout = natural_number(n, "n"), self._host, wait_time(timeout)
        payload = host.payloads.dumps(message, f"the message to channel {self.name}")
        word = messages.Publish(host.payloads.version(), n, timeout)
        patience = None if timeout is None else timeout + ANSWER_S
        try:
            over = messages.Publish(over=True)
            answer = await host.call(self.address, word, payload, patience, revoked_by=over)
        except TimeoutError:  # the channel cannot be reached
            return 0
        return int(answer.message.code) if answer is not None else 0

    # --- subscribers ---

    @brief
    async def subscribe(self, subscriber: Task | Channel, timeout: float | None = None) -> int:
        """Have all that is sent from now on go to this task or channel, too; returns 0 when that is so.

        One that ends is dropped.

        Raises
        ------
        ChannelClosed: the channel was closed, or its process has ended. TimeoutError: not within `timeout` seconds.
        TypeError: it is neither a task nor a channel. ValueError: it is this channel.
        """
        return await self._subscribe(subscriber, timeout, over=False)

    @brief
    async def unsubscribe(self, subscriber: Task | Channel, timeout: float | None = None) -> int:
        """Have nothing more go there; returns 0 when that is so. Raises as subscribe."""
        return await self._subscribe(subscriber, timeout, over=True)

    async def _subscribe(self, subscriber: Any, timeout: float | None, *, over: bool) -> int:
        host = self._host
        is_channel = isinstance(subscriber, Channel)
        if is_channel:
            who = to = subscriber.address
            if subscriber == self:
                raise ValueError(f"channel {self.name} cannot subscribe to itself")
        elif isinstance(subscriber, Task):
            who = subscriber.home
            to = subscriber.direct or who
        else:
            raise TypeError(f"a subscriber must be a Task or a Channel, not {type(subscriber).__name__}")
        word = messages.Subscribe(who, to, is_channel, over)
        try:
            answer = await host.call(self.address, word, None, timeout)
        except TimeoutError:
            raise TimeoutError(f"channel {self.name} did not answer within {timeout:g} s") from None
        if answer is None or not answer.message.code:
            raise ChannelClosed(f"channel {self.name} was closed, or its process has ended")
        return 0

    # --- names ---

    @plain
    def register(self) -> int:
        """Have it found by its name. Returns 0. Only where it was made.

        Raises
        ------
        NameTaken: another channel of this process has the name. ChannelClosed: it was closed.
        """
        self._must_be_here("register")
        self._host.sharing.names.register(self, self.name, channel=True)
        return 0

    @plain
    def unregister(self) -> int:
        """Take its name away. Returns 0. Only where it was made."""
        self._must_be_here("unregister")
        self._host.sharing.names.unregister(self, channel=True)
        return 0

    @classmethod
    @brief
    async def locate(
        cls, name: str, location: str | Location | None = None, timeout: float | None = None
    ) -> Self:
        """The channel that is registered by this name; as ``Task.locate``."""
        channel: Self = await current_host().sharing.names.locate(name, location, timeout, channel=True)
        return channel

    # --- where it was made ---

    @plain
    def set_transform(self, transform: Transformer | None) -> int:
        """Have messages that come from now on changed by this, or by nothing. Returns 0. Only where it was made."""
        self._must_be_here("set_transform")
        _must_transform(transform)
        self._host.sharing.channels.set_transform(self.address.actor, transform)
        return 0

    def close(self) -> int:
        """Nothing that is sent from now on goes anywhere, and its name is free. Returns 0. Only where it was made."""
        self._host.sharing.names.unregister(self, channel=True)
        if self._must_be_here("close", may_be_closed=True):
            self._host.sharing.channels.close(self.address.actor)
        return 0

    def _must_be_here(self, what: str, *, may_be_closed: bool = False) -> bool:
        """Whether it is open."""
        if self.address.epoch != self._host.runtime.epoch:
            raise RuntimeError(f"channel {self.name}: {what}() is for the process where it was made")
        is_open = self.address.actor in self._host.sharing.channels.channels
        if not is_open and not may_be_closed:
            raise ChannelClosed(f"channel {self.name} was closed")
        return is_open

    # --- identity ---

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        return f"<Channel {self.name}{f' at {self.location}' if self.location else ''}>"

    def __reduce__(self) -> tuple[Callable[..., Channel], tuple[Any, ...]]:
        place = self.location
        return _rebuild, (tuple(self.address), self.name, (place.addr, place.port) if place else None)


def _rebuild(address: tuple[int, int], name: str, location: tuple[str, int] | None) -> Channel:
    """Unpickle a handle: the channel itself where it is."""
    host: TaskHost = current_host()
    where = Address(*address)
    if where.epoch == host.runtime.epoch and where.actor in host.sharing.channels.channels:
        known: Channel = host.sharing.channels.channels[where.actor]
        return known
    kind: type[Channel] = host.sharing.channels.channel_class
    return kind.__new__(kind)._bind(host, where, name, Location(*location) if location else None)


def _must_transform(transform: object) -> None:
    if transform is None:
        return
    if not callable(transform):
        raise TypeError(f"transform must be a function of (name, message), not {type(transform).__name__}")
    try:
        signature = inspect.signature(transform)
    except ValueError:  # a builtin that does not say
        return
    try:
        signature.bind("name", "message")
    except TypeError as error:
        raise TypeError(f"transform must take (name, message): {error}") from None


class Channels:
    """turns.Role of the channels that were made in this process; it is there from the first one on."""

    channel_class: type[Channel] = Channel  # of those that come from elsewhere

    def __init__(self, host: TaskHost) -> None:
        self._host = host
        self.machine = Hubs()
        self.channels: dict[int, Channel] = {}  # those that are open, by actor
        self._transforms: dict[int, Transformer] = {}
        self._waiting: deque[Envelope] = deque()  # messages to be transformed, or behind one
        self._is_transforming = False
        self._is_attached = False
        host.on_gone.append(self.machine.lose)

    def open(self, transform: Transformer | None, channel: Channel) -> Address:
        host, runtime = self._host, self._host.runtime
        with host.shield, runtime.lock:
            if not self._is_attached:
                self._is_attached = True
                runtime.attach(CHANNELS, self)
            address = runtime.attach_inbox(host.take_number(), self.machine.receive)
            self.machine.open(address)
        self.channels[address.actor] = channel
        if transform is not None:
            self.set_transform(address.actor, transform)
        return address

    def set_transform(self, actor: int, transform: Transformer | None) -> None:
        with self._host.shield, self._host.runtime.lock:
            if transform is None:
                self._transforms.pop(actor, None)
            else:
                self._transforms[actor] = transform
            self.machine.set_transforms(actor, transforms=transform is not None)

    def close(self, actor: int) -> None:
        runtime = self._host.runtime
        with self._host.shield, runtime.lock:
            runtime.detach(actor)
            self.machine.close(actor)
        del self.channels[actor]
        self._transforms.pop(actor, None)
        runtime.turn_soon()

    # --- turns.Role ---

    def on_event(self, event: Event, now: float) -> None:
        """The ends of subscribers are told by their processes, or by the host."""

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, Pass):
            self._host.pass_message(effect.envelope, direct=effect.direct)
        elif isinstance(effect, Follow):
            self._follow(effect)
        elif isinstance(effect, Transform):
            self._waiting.append(effect.envelope)
            if not self._is_transforming:
                self._is_transforming = True
                self._host.runtime.defer(self._begin)
        else:
            raise TypeError(f"no such effect: {effect!r}")

    def _follow(self, effect: Follow) -> None:
        host, to = self._host, effect.to
        home = to.actor if to.epoch == host.runtime.epoch else 0

        def tell(answer: Envelope | None) -> None:
            self.machine.ended(effect.channel, effect.who)
            host.runtime.turn_soon()

        correlation = host.expect(to.epoch, tell, at_once=True, home=home)
        host.runtime.send(Envelope(to, host.address, messages.Watch(brief=True), correlation))

    # --- the user's code ---

    def _begin(self) -> None:
        """In a task of its own, which Ctrl-C reaches."""
        Task(self._transform_all)

    async def _transform_all(self) -> None:
        try:
            while (request := self._next()) is not None:
                payload, code = request.payload, request.message.code
                transform = self._transforms.get(request.to.actor)
                if transform is not None and not request.message.over:
                    payload, code = await self._transformed(transform, request), self._host.payloads.version()
                self._go_on(request, payload, code)
        except BaseException:  # this task was ended: what waits has another one, once more comes
            self._is_transforming = False
            raise

    def _next(self) -> Envelope | None:
        with self._host.shield, self._host.runtime.lock:  # a turn on the relief thread may bring more
            self._is_transforming = bool(self._waiting)
            return self._waiting[0] if self._waiting else None

    def _go_on(self, request: Envelope, payload: Payload, code: int) -> None:
        runtime = self._host.runtime
        with self._host.shield, runtime.lock:
            self._waiting.popleft()
            self.machine.transformed(request, payload, code, runtime.clock())
        runtime.turn_soon()

    async def _transformed(self, transform: Transformer, request: Envelope) -> Any:
        """The payload; None: there is nothing to send on."""
        host = self._host
        channel = self.channels.get(request.to.actor)
        name = channel.name if channel is not None else ""
        try:
            message = await open_value(host.payloads, request)
            if isinstance(message, Raised):
                raise message.error
            value = transform(name, message.value)
            if inspect.isawaitable(value):
                value = await value
            if value is None:
                return None
            return host.payloads.dumps(value, f"what the transform of channel {name} returned")
        except Exception as error:  # the user's own
            text = f"channel {name}: a message went nowhere, as its transform failed"
            host.loop.call_exception_handler({"message": text, "exception": error})
            return None
