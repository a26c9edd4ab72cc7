"""Remote tasks as they are written for today's Python."""
import sys
import pycos
import pycos.netpycos
from pycos.dispycos import *

def compute(n, client, task=None):
    client.send((n, task.location.addr))
    yield task.sleep(0.3)
    return n * n

def client_proc(client, njobs, task=None):
    if (yield client.schedule()):
        raise Exception('Could not schedule client')
    rtasks, hosts = [], set()
    for i in range(njobs):
        rtask = yield client.rtask(compute, i, task)
        if isinstance(rtask, pycos.Task):
            rtasks.append(rtask)
    for _ in rtasks:
        n, addr = yield task.receive()
        hosts.add(addr)
    results = []
    for rtask in rtasks:
        results.append((yield rtask()))
    print('results %s at %s' % (results, sorted(hosts)))
    yield client.close()

if __name__ == '__main__':
    client = Client([compute])
    pycos.Task(client_proc, client, int(sys.argv[1]))
