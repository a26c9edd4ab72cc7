"""What scripts of pycos do beside the plain way: parameters by keyword, calls from threads, ends of all kinds."""
import os, socket, subprocess, sys, threading, time
from functools import partial
import pycos
import pycos.asyncfile
from pycos.dispycos import *

def add(a, b=2, task=None):
    yield task.sleep(timeout=0.01, alarm_value=None)
    raise StopIteration(a + b)

def fails(task=None):
    yield
    raise ValueError('bad')

def caught(task=None):
    found = []
    while len(found) < 3:
        try:
            yield task.suspend()
        except Exception as exc:
            found.append(type(exc).__name__)
    return found

def ends(how, task=None):
    try:
        yield task.receive()
    except how as exc:
        raise StopIteration(isinstance(exc, KeyboardInterrupt))

def delegates(task=None):
    return (yield from ends(KeyboardInterrupt, task=task))

def first(task=None):
    task.hot_swappable(flag=True)
    yield task.receive()

def tasks(task=None):
    t = pycos.Task(target=add, args=(3,), kwargs={'b': 4})
    assert (yield t.finish(timeout=5)) == 7
    assert (yield pycos.Task(target=add, a=1)()) == 3
    t = pycos.Task(caught)
    for kind in (KeyError('x'),), (IndexError, IndexError('y')), ((OSError, OSError(2), None),):
        yield task.sleep(0.01)
        assert t.throw(*kind) == 0
    assert (yield t()) == ['KeyError', 'IndexError', 'OSError']
    for call in (ends, GeneratorExit), (ends, KeyboardInterrupt), (delegates,):
        t = pycos.Task(*call)
        yield task.sleep(0.01)
        assert t.terminate() == 0 and (yield t()) is True
    t = pycos.Task(fails)
    assert (yield task.monitor(observe=t)) == 0
    m = yield task.receive(timeout=5)
    assert 'in fails' in m.value and m.value.endswith('ValueError: bad') and pycos.MonitorStatus(t, 1).value is None
    t = pycos.Task(first)
    yield task.sleep(0.01)
    t.hot_swap(target=add, args=(1,))
    assert (yield t()) == 3
    task.register(name='named')
    assert (yield pycos.Task.locate('named', timeout=0)) is task and (yield task.locate('none', None, 0)) is None
    assert (yield task.deliver('m', timeout=0)) == 1 and (yield task.receive(0)) == 'm' and (yield t.deliver(1, 0)) == -1
    assert pycos.Pycos.scheduler() is task.scheduler() and pycos.Pycos.cur_task(task.scheduler()) == task
    pycos.Pycos().ignore_peers = True
    assert pycos.Pycos().ignore_peers
    loc = pycos.Location(host='h', tcp_port='7')
    assert loc.port == 7 and pycos.Location('localhost', 7) == pycos.Location('127.0.0.1', 7)
    assert pycos.Location(socket.gethostname(), task.location.port) == task.location
    assert (yield pycos.AsyncThreadPool(num_threads=1).async_task(target=add, args=(1,), kwargs={'b': 1})).__name__ == 'add'

def sleeps(task=None):
    raise StopIteration((yield task.sleep(0.1, alarm_value='alarm')))

def computes(task=None):
    yield
    time.sleep(0.3)

def channels(task=None):
    c = pycos.Channel(name='_one')
    assert c.name == 'one' and c.location == task.location
    assert (yield pycos.Channel.locate(name='one', location=None, timeout=1)) is c
    assert (yield c.deliver(1, timeout=0.1, n=-1)) == -1 and (yield c.subscribe('x')) == -1
    c.close()
    assert (yield pycos.Channel.locate('one', timeout=0.01)) is None
    kinds = pycos.CategorizeMessages(task=task)
    kinds.add(partial(lambda kind, m: kind if isinstance(m, kind) else None, int))
    task.send('a'); task.send(1)
    assert (yield kinds.receive(category=int)) == 1 and (yield kinds.receive()) == 'a'

event, condition, semaphore, lock = pycos.Event(), pycos.Condition(), pycos.Semaphore(value=1), pycos.Lock()

def waits(task=None):
    yield lock.acquire()
    assert (yield lock.acquire(True, 0.01)) is False
    lock.release()
    assert (yield lock.acquire(blocking=True, timeout=-1))
    lock.release()
    yield condition.acquire()
    assert (yield condition.wait(timeout=5))
    condition.release()
    yield semaphore.acquire()
    yield semaphore.acquire()
    assert (yield event.wait(timeout=5))

def files(task=None):
    r, w = map(pycos.asyncfile.AsyncFile, os.pipe())
    yield w.write(b'abcdef\nghi', full=True, timeout=1)
    assert ((yield r.readline(size=3)), (yield r.readline(10, 100, 1)), (yield r.read(2))) == (b'abc', b'def\n', b'gh')
    assert (yield r.read(9, full=True, timeout=0.01)) == b'i'
    try:
        yield r.read(9, full=True, timeout=0.01)
        assert False
    except IOError:
        pass
    sent = yield w.write(b'x' * 1000000, full=True, timeout=0.01)
    assert 0 < sent < 1000000
    process = subprocess.Popen('echo out; cat; exit 3', shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with pycos.asyncfile.AsyncPipe(process) as pipe:
        assert (yield pipe.read(9, 5)) == b'out\n'
        pipe.stdin.close()
        assert pipe.wait() == pipe.returncode == 3 and pipe.pid == process.pid
    a, b = map(pycos.AsyncSocket, socket.socketpair())
    yield a.send(b'xy')
    assert ((yield b.recv(1, socket.MSG_PEEK)), (yield b.recv(9))) == (b'x', b'xy')
    yield a.send(b'there')
    b.settimeout(1e-9)
    assert (yield b.recv(9)) == b'there'
    listening = socket.socket()
    listening.bind(('127.0.0.1', 0))
    listening.listen(1)
    c = pycos.AsyncSocket(socket.socket())
    yield c.create_connection(host_port=listening.getsockname(), timeout=5)
    assert c.gettimeout() == 5

for one in tasks, channels, files:
    print(one.__name__, pycos.Task(one).value())
t = pycos.Task(waits)
for wake in condition.notify, semaphore.release, event.set:
    time.sleep(0.1)
    wake()
print('threads', t.value())
t = pycos.Task(sleeps)
pycos.Task(computes)
time.sleep(0.05)
resumed = t.resume('resumed')  # heard when both are due
assert (resumed, t.value()) in ((0, 'resumed'), (-1, 'alarm')), (resumed, t.value())
found = []
for priority in 1, 9, 5:
    pycos.Pycos().atexit(priority, found.append, priority)
pycos.Pycos().atexit(5, print, 'stays')
pycos.Pycos().atexit(0, lambda: print(found))
pycos.Pycos().drop_atexit(priority=5, func=found.append)
with pycos.Logger('mine') as log:
    log.log('at %s', 'all levels')
