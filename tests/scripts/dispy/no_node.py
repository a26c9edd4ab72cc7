def compute(n):
    return n


if __name__ == '__main__':
    import dispy
    cluster = dispy.JobCluster(compute, nodes=['10.9.8.7'])
    print(cluster.submit(1)())
