"""Turns values into payloads. Three ways, each tried when the one before fails.

Plain C pickle (2 us); C pickle that asks by_value.py how each thing is to go; dill, which tells the culprit (culprits.py).
"""

import io
import pickle
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from dispycos.protocol.codec import BUFFERS_MAX

from .by_value import PROTOCOL, BufferCallback, Names
from .words import MissingCode, ShippingError

OUT_OF_BAND_MIN = 16 << 10
OUT_OF_BAND_MAX = BUFFERS_MAX - 1  # buffers, beside the stream

Frame: TypeAlias = bytes | pickle.PickleBuffer
Payload: TypeAlias = bytes | list[Frame]  # a list: the pickle stream, then its out-of-band buffers


def dumps(value: Any, what: str = "the value") -> Payload:
    """Raises NotPicklable naming the culprit; `what` is the value's name in that text."""
    return _dumps(value, what)


def dumps_call(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, by_name: bool = False
) -> Payload:
    """The payload of (function, args, kwargs), or of (None, args, kwargs) `by_name`; an error names the argument."""
    return _dumps((None if by_name else function, args, kwargs), function)


def loads(stream: Any, buffers: Sequence[Any] = ()) -> Any:
    """What was pickled. Whoever gets an array may write into it: frames of bytes are copied, chunks were put together here."""
    own = (
        [frame if isinstance(frame, bytearray) else bytearray(frame) for frame in buffers] if buffers else ()
    )
    try:
        return pickle.loads(stream, buffers=own)
    except AttributeError as error:
        why = error.__context__  # Python 3.14 raises its own error for whatever stops it in a dotted name
        if isinstance(why, MissingCode | ShippingError):
            raise why from None
        raise
    except TypeError:
        from .exceptions import Rebuilder  # an exception in it, perhaps, that is not to be made from its args

        try:
            return Rebuilder(io.BytesIO(stream), buffers=own).load()
        except Exception:  # edge of user code: the first error tells
            pass
        raise


def _dumps(value: Any, what: Any) -> Payload:
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)
        return stream if not buffers else _with_large_buffers(value)
    except Exception:  # edge of user code (__reduce__, __getstate__): the slow ways tell
        pass
    large = LargeBuffers()
    return large.payload(dumps_slowly(value, Names(sys.modules["__main__"]), what, large))


def _with_large_buffers(value: Any) -> Payload:
    """Pickled again, with small buffers in the stream; nothing was copied the first time."""
    large = LargeBuffers()
    return large.payload(pickle.dumps(value, PROTOCOL, buffer_callback=large))


class LargeBuffers(list[pickle.PickleBuffer]):
    """Keeps buffers that are worth a frame of their own; smaller ones stay in the stream."""

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            if len(self) >= OUT_OF_BAND_MAX or buffer.raw().nbytes < OUT_OF_BAND_MIN:
                return True
        except BufferError:
            return True  # not contiguous
        self.append(buffer)
        return False

    def payload(self, stream: bytes) -> Payload:
        return [stream, *self] if self else stream


class NamingPickler(pickle.Pickler):
    """C pickle that finds names, and takes apart what has none."""

    def __init__(self, file: io.BytesIO, names: Names, buffers: BufferCallback | None = None) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=buffers)
        self._names = names

    def reducer_override(self, thing: Any) -> Any:
        return self._names.reduce(thing)


def dumps_naming(value: Any, names: Names, buffers: BufferCallback | None = None) -> bytes:
    """What it makes use of is noted in names; raises what pickle and user code raise."""
    file = io.BytesIO()
    NamingPickler(file, names, buffers).dump(value)
    return file.getvalue()


def dumps_slowly(value: Any, names: Names, what: Any, large: LargeBuffers | None = None) -> bytes:
    """Raises NotPicklable; `what` is the value's name, or the function of which it is a call."""
    try:
        return dumps_naming(value, names, large)
    except Exception as error:  # edge of user code
        refused = error.with_traceback(None)  # this frame in it were a cycle, and kept the callers' objects
    from .culprits import dumps_by_dill

    if large:
        large.clear()  # it is all pickled again
    return dumps_by_dill(value, names, refused, what, large)
