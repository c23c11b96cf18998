"""Acts on running stores: forms and heals the Redis Cluster, steers Patroni, asks NATS. All I/O, no Kubernetes objects."""
