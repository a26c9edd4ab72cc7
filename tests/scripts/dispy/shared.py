"""Programs share a scheduler's nodes: one that has no jobs for some seconds lends them, and gets them back."""
import os, sys, time
import dispy


def compute(n):
    return n


if __name__ == '__main__':
    name = 'first' if sys.argv[2:] else 'other'
    cluster = dispy.SharedJobCluster(compute, scheduler_host='127.0.0.1', scheduler_port=int(sys.argv[1]))
    print(name, cluster.submit(1)(), flush=True)
    while sys.argv[2:] and not os.path.exists('other_is_done'):
        time.sleep(.05)
    print(name, cluster.submit(2)(), flush=True)
    cluster.close()
    open('other_is_done', 'w').close()
