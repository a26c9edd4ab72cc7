#!/usr/bin/env python

def compute(n):
    import time, socket, sys
    time.sleep(n / 10.0)
    print('computed %s' % n)
    sys.stderr.write('err %s\n' % n)
    host = socket.gethostname()
    return (host, n)


if __name__ == '__main__':
    import dispy, dispy.httpd, random
    cluster = dispy.JobCluster(compute)
    http_server = dispy.httpd.DispyHTTPServer(cluster, port=0)
    http_server.add_cluster(cluster)
    jobs = []
    for i in range(6):
        job = cluster.submit(random.randint(1, 3))
        job.id = i
        jobs.append(job)
    for job in jobs:
        host, n = job()
        print('%s executed job %s at %s with %s' % (job.ip_addr, job.id, job.start_time is not None, n in (1, 2, 3)))
        print(repr(job.stdout), repr(job.stderr), job.exception, job.status == dispy.DispyJob.Finished)
    cluster.print_status()
    cluster.wait()
    http_server.del_cluster(cluster)
    http_server.shutdown()
    print(cluster.close(), cluster.close())
