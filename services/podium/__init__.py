"""Podium: live scoreboards as a Kubernetes resource."""
