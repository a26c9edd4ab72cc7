"""Finds what name_server.py has, in another process."""
import os, sys, pycos.netpycos as pycos
def status(task=None):
    task.set_daemon()
    pycos.Pycos.instance().peer_status(task)
    while 1:
        st = yield task.receive()
        if isinstance(st, pycos.PeerStatus):
            print('peer', st.name, st.status == pycos.PeerStatus.Online)
def client_proc(n, task=None):
    server = yield pycos.Task.locate('server_task', timeout=5)
    loc = yield pycos.Pycos().locate('srv', timeout=5)
    print(loc == server.location, (yield pycos.Task.locate('server_task', location=loc, timeout=5)) == server)
    for i in range(n):
        print((yield server.deliver({'n': i, 'task': task}, timeout=5)))
        print((yield task.receive(timeout=5)))
    print('at %s' % server.location, loc.port == server.location.port)
    brief = yield pycos.RPS.locate('brief')
    ended = yield brief(1)
    waits = yield pycos.RPS.locate('waits')
    rt = yield waits()
    yield task.sleep(0.1)
    print('brief', (yield ended()), (yield ended.finish(1)))
    print('file', (yield pycos.Pycos().send_file(loc, __file__, dir='sent')), (yield pycos.Pycos().send_file(loc, __file__, dir='../x')))
    print('deleted', (yield pycos.Pycos().del_file(loc, os.path.basename(__file__), dir='sent')))
    print('close', waits.close(), (yield waits()), (yield rt()).type)
    rps = yield pycos.RPS.locate('dbl')
    rps.monitor(task)
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
