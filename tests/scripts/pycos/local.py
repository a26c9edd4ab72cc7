"""All of what tasks of one program have, in the words of pycos: sockets, pipes, channels, locks ..."""
import os, sys, time, socket, threading, subprocess, logging
import pycos
import pycos.asyncfile
from pycos import Task, Channel, logger

def server(sock, task=None):
    task.set_daemon()
    while 1:
        conn, addr = yield sock.accept()
        pycos.Task(client_conn, conn)

def client_conn(conn, task=None):
    task.set_daemon()
    while True:
        msg = yield conn.recv_msg()
        if not msg: break
        yield conn.send_msg(msg.upper())
    conn.close()

def sockclient(port, task=None):
    s = pycos.AsyncSocket(socket.socket())
    yield s.connect(('', port))
    yield s.send_msg(b'hello')
    print('sock', (yield s.recv_msg()))
    s.settimeout(0.1)
    try:
        yield s.recv_msg()
    except socket.timeout:
        print('sock timeout')
    s.settimeout(None)
    waits = pycos.Task(closed_under_it, s)
    yield task.sleep(0.05)
    s.close()
    yield waits.finish()

def closed_under_it(s, task=None):
    print('sock', (yield s.recv_msg()))
    e = pycos.Event()
    print('set', e.isSet())
    print('discover', pycos.Pycos.instance().discover_peers(), (yield pycos.Pycos.instance().discover_peers()))

def accepting(sock, task=None):
    try:
        yield sock.accept()
    except socket.error as e:
        print('accept', e.errno == 9)

def tls(task=None):
    key = {'keyfile': 'own.key', 'certfile': 'own.pem'}
    listening = pycos.AsyncSocket(socket.socket(), **key)
    listening.bind(('127.0.0.1', 0))
    listening.listen(5)
    waits = pycos.Task(server, listening)
    plain = pycos.AsyncSocket(socket.socket())
    yield plain.connect(listening.getsockname())  # says nothing: nobody waits for it
    s = pycos.AsyncSocket(socket.socket(), certfile='own.pem')
    yield s.connect(listening.getsockname())
    yield s.send_msg(b'hello' * 100000)
    print('tls', (yield s.recv_msg()) == b'HELLO' * 100000)
    s.close()
    other = pycos.AsyncSocket(socket.socket(), certfile='other.pem')
    try:
        yield other.connect(listening.getsockname())
    except OSError as e:
        print('tls', type(e).__name__)
    blocking = pycos.AsyncSocket(socket.socket(), blocking=True, certfile='own.pem')
    def talk():
        blocking.connect(listening.getsockname())
        blocking.send_msg(b'thread')
        return blocking.recv_msg()
    print('tls', (yield pycos.AsyncThreadPool(1).async_task(talk)))
    plain.close()
    waits = pycos.Task(accepting, listening)
    yield task.sleep(0.05)
    listening.close()
    yield waits()

def pipes(task=None):
    p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    a = pycos.asyncfile.AsyncPipe(p)
    yield a.write(b'line1\nline2\n', full=True)
    print('pipe', (yield a.readline()))
    a.stdin.close()
    print('pipe', (yield a.read()), (yield a.wait()), a.poll())
    b = pycos.asyncfile.AsyncPipe(subprocess.Popen(['sort'], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    print((yield b.communicate(b'b\na\n')))

def sub(task=None):
    for i in range(2):
        m = yield task.receive()
        print('sub got', m)
    m = yield task.recv(timeout=0.05, alarm_value='alarm')
    print(m)

def chan(task=None):
    t = pycos.Task(sub)
    c = pycos.Channel('ch', transform=lambda n, m: (n, m))
    print('subscribe', (yield c.subscribe(t)))
    print('deliver', (yield c.deliver(1, timeout=2)))
    c.send(2)
    print('reg', c.register(), c.register())
    d = yield pycos.Channel.locate('ch', timeout=1)
    print(d == c, type(d) is pycos.Channel, (yield pycos.Channel.locate('nope', timeout=0.1)))
    yield t.finish()

def sleeper(task=None):
    x = yield task.suspend(alarm_value=3)
    print('resumed', x)
    y = yield task.sleep(0.01, alarm_value='alarm')
    print(y)

lock = pycos.Lock()
def locked(n, l, task=None):
    yield lock.acquire()
    l.append(n)
    yield task.sleep(0.01)
    l.append(n)
    lock.release()

def old(task=None):
    task.hot_swappable(True)
    while True:
        try:
            m = yield task.receive()
            print('old', m)
        except pycos.HotSwapException as e:
            print('swap', e.args[0].__name__, e.args[0].gi_code.co_argcount)
            raise
def new(task=None):
    task.hot_swappable(False)
    m = yield task.receive()
    print('new', m)
    return 'swapped'

def failing(task=None):
    yield task.sleep(0.01)
    raise KeyError('x')

def moni(task=None):
    t = pycos.Task(failing)
    print('mon', (yield task.monitor(t)))
    m = yield task.receive(timeout=2)
    print(isinstance(m, pycos.MonitorStatus), m.type, m.info == t)
    t2 = pycos.Task(sleeper)
    t2.notify(task)
    yield task.sleep(0.05)
    t2.resume(7)
    m = yield task.receive(timeout=2)
    print(m.type, m.value)

def rpsf(a, b=1, task=None):
    yield task.sleep(0.01)
    return a + b

def rpscl(task=None):
    rps = yield pycos.RPS.locate('rpsf')
    rt = yield rps(4, b=5)
    print('rps', (yield rt()), (yield rt.finish()))

def cat(task=None):
    c = pycos.CategorizeMessages(task)
    c.add(lambda m: 'int' if isinstance(m, int) else None)
    c.add(lambda m: 'str' if isinstance(m, str) else None)
    print((yield c.receive('str')), (yield c.receive('int')), (yield c.receive('x', 0.05, 'none')))

def terminated(task=None):
    try:
        yield task.sleep(100)
    except KeyboardInterrupt:
        print('kbd')
        raise

def objects(task=None):
    class Local: pass
    o = yield task.receive()
    print('same object', o is OBJ)

OBJ = threading.Lock()

class K:
    def m(self, x, task=None):
        yield task.sleep(0.01)
        print('method', x, task.name)

if __name__ == '__main__':
    sock = socket.socket(); sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(('127.0.0.1', 0)); sock.listen(5)
    port = sock.getsockname()[1]
    pycos.Task(server, pycos.AsyncSocket(sock))
    pycos.Task(sockclient, port).value()
    if os.path.exists('own.pem'):
        pycos.Task(tls).value()
    pycos.Task(pipes).value()
    pycos.Task(chan).value()
    s = pycos.Task(sleeper)
    time.sleep(0.05)
    r = s.resume('R')
    s.value()
    print('resume', r)
    l = []
    ts = [pycos.Task(locked, i, l) for i in range(3)]
    [t.value() for t in ts]
    print(l)
    t = pycos.Task(old)
    t.send('a'); time.sleep(0.05)
    t.hot_swap(new)
    time.sleep(0.05); t.send('b')
    print(t.value())
    print(pycos.Task(failing).value().type)
    pycos.Task(moni).value()
    r = pycos.RPS(rpsf); print('r', r.register())
    pycos.Task(rpscl).value()
    c = pycos.Task(cat); c.send(5); c.send('x'); c.value()
    t = pycos.Task(terminated); time.sleep(0.05); r = t.terminate(); v = t.value(); print(r); print(v.type, t.is_alive(), t.send(1))
    t = pycos.Task(objects); t.send(OBJ); t.value()
    pycos.Task(K().m, 3).value()
    pool = pycos.AsyncThreadPool(2)
    def thr(task=None):
        x = yield pool.async_task(time.sleep, 0.01)
        y = yield pool.async_task(sum, [1, 2])
        print('pool', y)
        try:
            yield pool.async_task(int, 'x')
        except ValueError as e: print(e)
    pycos.Task(thr).value()
    e = pycos.Event(); cond = pycos.Condition(); sem = pycos.Semaphore(2); rl = pycos.RLock()
    def waiter(task=None):
        yield cond.acquire()
        r = yield cond.wait(timeout=1)
        cond.release()
        print('cond', r)
    def notifier(task=None):
        yield task.sleep(0.05)
        yield cond.acquire(); cond.notify(); cond.release()
    w = pycos.Task(waiter); pycos.Task(notifier); w.value()
    print(pycos.Pycos().name == socket.gethostname(), pycos.Pycos.instance().location.addr.count('.'), pycos.Location('127.0.0.1', '9705'), isinstance(pycos.Location('a', 1), pycos.Location))
    print(pycos.Struct(a=1), pycos.unserialize(pycos.serialize({'a': 1})))
    pycos.logger.info('info %s', 1); pycos.logger.setLevel(pycos.Logger.DEBUG); pycos.logger.debug('dbg'); logger.setLevel(pycos.logger.DEBUG)
    def late(task=None):
        yield task.sleep(0.2)
        print('late ends')
    pycos.Task(late)
    print('%s' % pycos.Location('h', '1'))
    print('main ends')
