"""A function that runs at a server is a client itself, with the code that it got."""

import math
import threading

from shipping_client import Remote

FACTOR = 3
LOCK = threading.Lock()


class Point:
    def scaled(self):
        with LOCK:
            return math.floor(2.5) * FACTOR


def inner(point):
    assert type(point) is Point
    return point, point.scaled()


def unrelated():
    return "never sent"


def outer():
    with Remote(node="second") as remote:
        point, scaled = remote.call(inner, Point())
        return type(point) is Point, scaled


def unpickles(data):
    import pickle

    return pickle.loads(data)()


if __name__ == "__main__":
    import pickle

    with Remote() as first:
        assert first.call(outer) == (True, 6)
        assert first.call(unpickles, pickle.dumps(unrelated)) == "never sent"
        print("nested travels")
