"""Acts on running stores: forms and heals the Redis Cluster, steers Patroni, asks NATS."""
