"""Jobs that end in all the ways that hung dispy, and what else a script may do with a cluster."""
import glob, os, signal, sys, threading, time
import dispy, pycos

data = None


class Thing(object):
    def __init__(self, x):
        self.x = x

    def method(self, y):
        return self.x * y


def fails(how, *args):
    import os, signal, sys, time
    if how == 'raise':
        raise ValueError('bad %s' % args)
    if how == 'exit':
        sys.exit('left')
    if how == '_exit':
        os._exit(3)
    if how == 'kill':
        os.kill(os.getpid(), signal.SIGKILL)
    if how == 'iterator':
        return iter(open(os.devnull))
    if how == 'sleep':
        time.sleep(20)
    if how == 'caught':
        try:
            time.sleep(20)
        except KeyboardInterrupt:
            return 'caught'
    if how == 'provisional':
        dispy_provisional_result(1)
        dispy_provisional_result(2)
        with open('made.txt', 'w') as fd:
            fd.write('made' * 100000)
        return dispy_send_file('made.txt'), dispy_send_file('none.txt')
    if how == 'names':
        return dispy_node_ip_addr, dispy_node_name, dispy_job_path == os.getcwd()
    if how == 'file':
        return open(args[0]).read(), data
    if how == 'thing':
        return Thing(args[0].x + 1)
    return how


def setup(x):
    global data
    data = 'data %s' % x
    return 0


def cleanup(x):
    print('cleanup', x, data)


def bad_setup():
    raise RuntimeError('no setup here')


def in_a_task(cluster, task=None):
    job = cluster.submit('given')
    for call in (job, cluster.wait, cluster.close):
        try:
            call()
        except RuntimeError as error:
            print(str(error).partition(':')[0])
    while not job.finish.is_set():
        yield task.sleep(.02)
    print(job())


events = []


def job_status(job):
    events.append(job.status)


def cluster_status(status, node, job):
    kind = 'job' if job else 'node'
    with lock:
        seen.append((kind, status))


lock = threading.Lock()
seen = []


def noop(i):
    import os
    if i == 500 and not os.path.exists('mark'):
        open('mark', 'w').close()
        os._exit(1)
    return i


if __name__ == '__main__':
    with open('given.txt', 'w') as fd:
        fd.write('given')
    cluster = dispy.JobCluster(fails, nodes=[dispy.NodeAllocate('*', setup_args=(7,))], depends=[Thing, 'given.txt'],
                               setup=setup, cleanup=cleanup, callback=job_status, cluster_status=cluster_status)
    for how in ('raise', 'exit', '_exit', 'kill', 'iterator', 'names'):
        job = cluster.submit(how, 5)
        print(how, job(), job.status, (job.exception or 'None').strip().splitlines()[-1][:90])
    job = cluster.submit('file', 'given.txt')
    print(job(), job.ip_addr, job.end_time >= job.start_time >= job.submit_time)
    open('more.txt', 'w').write('more')
    print(cluster.submit('file', 'more.txt', dispy_job_depends=['more.txt'])())
    print(cluster.submit('file', dispy_job_depends=['none.txt']))
    thing = cluster.submit('thing', Thing(4))()
    print(type(thing) is Thing, thing.x)
    pycos.Task(in_a_task, cluster).value()
    job = cluster.submit('x', threading.Lock())
    print(job(), job.status, job.exception)

    jobs = [cluster.submit(how) for how in ('sleep', 'caught', 'sleep')]
    while jobs[0].status != dispy.DispyJob.Running or jobs[1].status != dispy.DispyJob.Running:
        time.sleep(0.05)
    print([cluster.cancel(job) for job in reversed(jobs)], cluster.cancel(jobs[2]))
    print([(job(), job.status) for job in jobs])

    while len(events) < 14:  # callbacks may come behind the end of their jobs
        time.sleep(0.02)
    del events[:]
    job = cluster.submit('provisional')
    print(job(), os.path.getsize('made.txt'))
    print(cluster.wait(5), cluster.wait())
    node = cluster.status().nodes[0]
    print(node.ip_addr, node.cpus, node.busy, cluster.status().jobs_pending, cluster.submit_node(node, 'here')(),
          cluster.submit_node(node.ip_addr, 'there')(), cluster.submit_node('10.1.2.3', 'nowhere'))

    # another cluster gets the nodes while this one has no jobs, and this one gets them back
    other = dispy.JobCluster(noop, reentrant=True, pulse_interval=1)
    jobs = [other.submit(i) for i in range(1000)]
    print(sum(job() for job in jobs), set(job.status for job in jobs),
          [(node.busy, node.jobs_done) for node in other.status().nodes])
    print(cluster.submit('again')(), other.close())
    while len(events) < 6:
        time.sleep(0.02)
    print(len(events), sorted(set(seen)))
    job = cluster.submit('sleep')
    while job.status != dispy.DispyJob.Running:
        time.sleep(0.05)
    print(cluster.wait(0.1), cluster.close(0.1))
    print(cluster.close(terminate=True), job(), job.status)

    try:
        with dispy.JobCluster(bad_setup, setup=bad_setup) as cluster:
            job = cluster.submit()
            print(job(), job.status, 'no setup here' in job.exception)
            raise KeyError('body')
    except KeyError as error:
        print('raised', error)

    cluster = dispy.JobCluster(Thing.method)
    print(cluster.submit(Thing(3), 4)())
    cluster.close()
    open('prog.py', 'w').write('import sys; print(sys.argv[1:]); sys.exit(4)')
    cluster = dispy.SharedJobCluster('prog.py', scheduler_host='127.0.0.1', scheduler_port=int(sys.argv[1]))
    job = cluster.submit(1, 'b')
    print(job(), job.stdout, job.status)
    for wrong in (lambda: dispy.JobCluster(5), lambda: dispy.JobCluster('/no/such/prog'), lambda: dispy.JobCluster(noop, bogus=1),
                  lambda: dispy.JobCluster(noop, callback=lambda: 1)):
        try:
            wrong()
        except Exception as error:
            print(type(error).__name__, error)
    print(glob.glob('_dispy_*') != [], dispy.recover_jobs())
    job = cluster.submit('left open')
