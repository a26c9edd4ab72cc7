"""A task, a channel and a service that other programs find by their names; ends at 'quit' or at the end of its input."""
import sys, pycos.netpycos as pycos
def server_proc(task=None):
    task.set_daemon()
    task.register('server_task')
    while 1:
        msg = yield task.receive()
        if isinstance(msg, dict):
            print('got', msg['n'], msg['task'].location is not None)
            msg['task'].send('reply %d' % msg['n'])
        elif msg is None:
            break
    print('server ends')
def rps_f(a, task=None):
    yield task.sleep(0.01)
    raise StopIteration(a * 2)
def waits(task=None):
    try:
        yield task.sleep(100)
    except KeyboardInterrupt:
        print('service task ends')
        sys.stdout.flush()
        raise
def brief(a):
    return a + 1
def sub(task=None):
    task.set_daemon()
    c = pycos.Channel('ch')
    c.register()
    yield c.subscribe(task)
    while 1:
        m = yield task.receive()
        print('channel', m)
        sys.stdout.flush()
pycos.Pycos(name='srv', udp_port=0, node='127.0.0.1')
s = pycos.Task(server_proc)
print('serves')
sys.stdout.flush()
pycos.Task(sub)
pycos.RPS(rps_f, name='dbl').register()
pycos.RPS(waits).register()
pycos.RPS(brief).register()
while True:
    try:
        line = sys.stdin.readline()
        if line.strip().lower() in ('quit', '') : break
    except: break
print('input ends')
s.send(None)
print('value', s.value())
