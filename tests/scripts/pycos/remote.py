#!/usr/bin/env python
"""Remote tasks in the words of Python 2.7: what is raised, assertions, names by `import *`."""
import sys, os, random

import pycos.netpycos as pycos
from pycos.dispycos import *
import pycos.config, pycos.httpd
import helper

assert sys.version_info.major == 2, ('"%s" is not suitable for Python version %s.%s' %
                                     (__file__, sys.version_info.major, sys.version_info.minor))


class Result(object):
    def __init__(self, n):
        self.n = n

    def __repr__(self):
        return 'Result %d' % self.n


def compute(n, client, task=None):
    client.send(('started', n, task.location.addr))
    msg = yield task.receive(timeout=5)
    if n == 2:
        raise ValueError('bad')
    m = yield helper.helped(n, task=task)
    assert os.path.isfile(os.path.join('..', 'helper.py'))
    raise StopIteration(Result(m), msg, pycos.Task.__name__)


def seeks(task=None):
    yield pycos.Task.locate('nobody', timeout=60)


def late(n, task=None):
    import old.late
    pycos.Task(seeks)  # until this server ends
    return (yield old.late.later(n))


def takes_files(n, client, task=None):
    while True:
        name = yield task.recv()
        if not name:
            break
        with open(name) as fd:
            data = fd.read()
        with open('out_' + name, 'w') as fd:
            fd.write(data.upper())
        print('sent', (yield pycos.Pycos().send_file(client.location, 'out_' + name, overwrite=True, timeout=5)))
        client.send('out_' + name)


def status_proc(task=None):
    task.set_daemon()
    seen = set()
    while 1:
        msg = yield task.receive()
        if isinstance(msg, pycos.MonitorStatus):
            if msg.type == StopIteration:
                seen.add('finished')
            else:
                seen.add('failed %s' % msg.type.__name__)
        elif isinstance(msg, DispycosStatus):
            for name in ('NodeInitialized', 'ServerInitialized', 'TaskCreated', 'TaskStarted'):
                if msg.status == getattr(Scheduler, name):
                    seen.add(name)
            if msg.status == Scheduler.ClientClosed:
                print('status:', ', '.join(sorted(seen)))


def client_proc(computation, njobs, task=None):
    computation.status_task = pycos.Task(status_proc)
    if (yield computation.schedule()):
        raise Exception('schedule failed')
    print('nodes', (yield computation.nodes()), 'servers', len((yield computation.servers())))
    for i in range(njobs):
        rtask = yield computation.rtask(compute, i, task)
        print(isinstance(rtask, pycos.Task), (yield task.receive()))
        print((yield rtask.deliver('hi %d' % i, timeout=5)))
        result = yield rtask.finish()
        if isinstance(result, pycos.MonitorStatus):
            print(result.type.__name__, 'in compute' in result.value)
        else:
            print(result)
    print((yield computation.run_result(helper.helped, 9)))
    print((yield computation.run_result(late, 9)))
    print((yield computation.rtask_at('10.9.8.7', compute, 1, task)))
    print(type((yield computation.rtask(compute, lambda: iter([1]).__next__, pycos.Lock()))).__name__)

    rtask = yield computation.run_async(takes_files, 1, task)
    with open('text.txt', 'w') as fd:
        fd.write('some text')
    print((yield pycos.Pycos().send_file(rtask.location, 'text.txt', timeout=5, overwrite=True)))
    rtask.send('text.txt')
    while True:
        name = yield task.receive(timeout=5)
        if not isinstance(name, tuple):
            break
    print(open(os.path.join(pycos.Pycos().dest_path, name)).read())
    rtask.send(None)
    yield rtask()
    yield computation.close()


if __name__ == '__main__':
    assert os.path.isfile(os.path.join(os.path.dirname(pycos.__file__), 'data', 'Dockerfile'))
    Scheduler()
    client = Computation([compute, Result, 'helper.py'], pulse_interval=10)
    print(sys.argv[1:], __file__, sys.path[0] == os.path.dirname(os.path.abspath(__file__)))
    pycos.Task(client_proc, client, int(sys.argv[1])).value()
