"""Run CPU tasks and talk to them while they run: `python dispycos_client1.py [N=10]`.

Each task computes for a while, is asked how far it is, and answers between two rounds of computing. Status messages tell
which nodes and servers there are. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import sys
import time

import dispycos


def compute(rounds, *, task):
    """Generator function: computes in rounds, looks into its mailbox after each."""
    done = 0
    while done < rounds:
        until = time.perf_counter() + 0.05
        while time.perf_counter() < until:  # the CPU work
            pass
        done += 1
        asker = yield task.receive(timeout=0)  # does not wait: None if nobody asked
        if asker is not None:
            asker.send((task, done))
    return done


def on_status(*, task):
    """Local task: prints what happens to nodes, servers and tasks."""
    while True:
        message = yield task.receive()
        if isinstance(message, dispycos.DispycosStatus):
            if message.status == dispycos.Scheduler.NodeInitialized:
                print(f"node {message.info.name} at {message.info.location} is ready")
            elif message.status == dispycos.Scheduler.ServerInitialized:
                print(f"server at {message.info} is ready")
            elif message.status == dispycos.Scheduler.ClientClosed:
                return
        elif isinstance(message, dispycos.MonitorStatus):
            print(f"job {message.info.name} at {message.info.location} ended with {message.value}")


def client(jobs, *, task):
    status_task = dispycos.Task(on_status)
    client = dispycos.Client([compute], status_task=status_task)
    yield client.schedule()
    for i in range(jobs):
        rtask = yield client.rtask(compute, 4 + i % 3)
        rtask.send(task)  # a handle in a message: the remote task answers to it
        who, rounds = yield task.receive()
        print(f"job {i} processed by {who.location}: {rounds} rounds so far")
    yield client.close()
    yield status_task()


if __name__ == "__main__":
    dispycos.run(client, int(sys.argv[1]) if len(sys.argv) > 1 else 10)
