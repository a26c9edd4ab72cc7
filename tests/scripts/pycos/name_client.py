"""Finds what name_server.py has, in another process."""
import sys, pycos.netpycos as pycos
def status(task=None):
    task.set_daemon()
    pycos.Pycos.instance().peer_status(task)
    while 1:
        st = yield task.receive()
        if isinstance(st, pycos.PeerStatus) and st.name == 'srv':
            print('peer', st.status == pycos.PeerStatus.Online)
def client_proc(n, task=None):
    server = yield pycos.Task.locate('server_task', timeout=5)
    loc = yield pycos.Pycos().locate('srv', timeout=5)
    print(loc == server.location, (yield pycos.Task.locate('server_task', location=loc, timeout=5)) == server)
    for i in range(n):
        print((yield server.deliver({'n': i, 'task': task}, timeout=5)))
        print((yield task.receive(timeout=5)))
    rps = yield pycos.RPS.locate('dbl')
    print('monitor', (yield rps.monitor(task)))
    rt = yield rps(21)
    print(isinstance(rt, pycos.Task), (yield rt()))
    ended = yield task.receive(timeout=5)
    print(ended.info == rt, ended.type, ended.value)
    ch = yield pycos.Channel.locate('ch', timeout=5)
    print((yield ch.deliver('via channel', timeout=5)), (yield ch.subscribe(task)))
    ch.send('to all')
    print((yield task.receive(timeout=5)))
pycos.logger.setLevel(pycos.logger.DEBUG)
pycos.Task(status)
pycos.Task(client_proc, 2)
