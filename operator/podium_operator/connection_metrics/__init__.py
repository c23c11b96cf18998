"""Serves the autoscaler the number of connections of each scoreboard pod: `custom.metrics.k8s.io`, read from the pods.

A process of its own, with rights of its own, behind the API server's aggregation layer (docs/adr/0012).
"""
