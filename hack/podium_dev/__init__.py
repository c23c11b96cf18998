"""Development tool of Podium: toolchain, local cluster, images and deployment.

Standard library only: it must start on a bare Debian 12 that has git, make and python3.
"""
