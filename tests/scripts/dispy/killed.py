"""A program that is killed while jobs run, and what they gave before is had by the next one."""
import sys, time
import dispy


class Result(object):
    def __init__(self, n):
        self.n = n


def compute(n):
    if n < 2:
        time.sleep(60)
    print('ended %s' % n)
    if n == 4:
        raise ValueError('bad 4')
    return Result(n)


if __name__ == '__main__':
    if sys.argv[1:]:
        for job in sorted(dispy.recover_jobs(), key=lambda job: job.stdout):
            print(job() and job.result.n, job.end_time >= job.start_time >= job.submit_time, job.status,
                  job.exception and job.exception.splitlines()[-1], job.stdout.strip())
        sys.exit()
    cluster = dispy.JobCluster(compute)
    for job in [cluster.submit(n) for n in (2, 3, 4)]:
        job()
    running = [cluster.submit(n) for n in range(2)]
    while running[1].status != dispy.DispyJob.Running:
        time.sleep(.05)
    print('three have ended', flush=True)
    cluster.wait()
