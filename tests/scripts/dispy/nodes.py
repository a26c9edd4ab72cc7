"""What a script may do with the nodes of a cluster, and what jobs and setup find there."""
import time
import dispy


def setup(name):
    global said
    said = open(name).read(), os.path.basename(name), sys.maxsize > 0
    return 0


def work(seconds=0, path=None):
    time.sleep(seconds)
    return said[0], path and open(path).read()


def delegate(name, x):
    return globals()[name](x)


def twice(x):
    return 2 * x


class Allocate(dispy.NodeAllocate):
    count = 0

    def allocate(self, cluster, ip_addr, name, cpus, avail_info=None, platform=''):
        Allocate.count += 1
        name = 'data%d' % Allocate.count
        with open(name, 'w') as fd:
            fd.write(name)
        self.depends, self.setup_args = [name], (name,)
        return cpus


events = []


def cluster_status(status, node, job):
    events.append(status)
    if status == dispy.DispyNode.Initialized:
        events.append(node.cpus)


pending = {}  # as scripts keep their jobs: noted behind submit(), taken out by the callback


def until(what, condition):
    end = time.time() + 10
    while not condition():
        if time.time() > end:
            raise SystemExit('never ' + what)
        time.sleep(.02)


def running(*jobs):
    until('running', lambda: all(job.status == dispy.DispyJob.Running for job in jobs))


if __name__ == '__main__':
    cluster = dispy.JobCluster(work, [Allocate('*')], setup=setup, cluster_status=cluster_status)
    print(cluster.set_node_cpus('nobody', 1), cluster.node_jobs('nobody'), cluster.close_node('nobody'),
          cluster.resetup_node('nobody'), cluster.deallocate_node('nobody'), cluster.send_file(__file__, 'nobody'),
          cluster.allocate_node(5), cluster.discover_nodes(['*']))
    until('node', lambda: events[1:])
    node = cluster.status().nodes[0]
    print(events, node.ip_addr, node.cpus, node.avail_cpus)

    jobs = [cluster.submit(30) for _ in range(3)]
    running(*jobs[:2])
    print('node_jobs', cluster.node_jobs(node) == cluster.node_jobs(node.ip_addr) == jobs[:2], node.busy)
    for job in reversed(jobs):  # else the last may begin in the place of another
        cluster.cancel(job)
    print([job() for job in jobs], [job.status for job in jobs])

    with open('sent.txt', 'w') as fd:
        fd.write('sent')
    print('send_file', cluster.send_file('sent.txt', node.name), cluster.submit(0, 'sent.txt')())

    print('set_node_cpus', [cluster.set_node_cpus(node, cpus) for cpus in (9, -1, 0)])
    job = cluster.submit()
    print(job.finish.wait(.3), cluster.set_node_cpus(node.ip_addr, 1), job())
    jobs = [cluster.submit(.5), cluster.submit(.5)]
    running(jobs[0])
    time.sleep(.2)
    print([job.status for job in jobs], cluster.set_node_cpus(node, 2), [job()[0] for job in jobs])

    print('deallocate_node', cluster.deallocate_node(node))
    job = cluster.submit()
    print(job.finish.wait(.3), cluster.allocate_node(node), job())

    print('resetup_node', cluster.resetup_node(node), cluster.submit()())
    until('told of its new setup', lambda: events.count(dispy.DispyNode.Initialized) == 2)

    job = cluster.submit(30)
    running(job)
    print('close_node', cluster.close_node(node, terminate_pending=True), job(), job.status)
    until('closed', lambda: dispy.DispyNode.Closed in events)
    job = cluster.submit()
    print(job.finish.wait(.3), cluster.allocate_node(node.ip_addr), job()[1], job.exception)
    print(cluster.wait(5), cluster.close())

    def ended(job):
        events.append(pending.pop(job.id, 'unknown'))

    cluster, events = dispy.JobCluster(delegate, callback=ended, loglevel=twice), []
    for i in range(5):
        job = cluster.submit('twice', i, dispy_job_depends=[twice])
        job.id = 'job %s' % i
        if job.status in (dispy.DispyJob.Created, dispy.DispyJob.Running):
            pending[job.id] = i
        print(job(), job.exception, end=' ')
    print(cluster.close())
    until('told', lambda: len(events) == 5)
    print(events, pending)

    # two clusters at once: what the script wanted of a node holds when it comes back
    one, other = dispy.JobCluster(twice), dispy.JobCluster(twice)
    print([cluster.submit(3)() for cluster in (one, other, one, other)], [len(c.status().nodes) for c in (one, other)])
    node = one.status().nodes[0]
    print('submit_node', one.submit_node(node, 4)(), other.submit(5)(), one.deallocate_node(node))
    job = one.submit(6)
    print(job.finish.wait(.7), one.allocate_node(node), job(), other.submit(7)(), one.close_node(node), one.submit_node(node, 8))
    job = one.submit(8)
    print(job.finish.wait(.7), one.allocate_node(node), job(), one.close(), other.close())
