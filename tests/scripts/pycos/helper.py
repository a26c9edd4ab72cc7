# a module of old text beside a script
def helped(n, task=None):
    yield task.sleep(0.01)
    raise StopIteration(n + 1)
