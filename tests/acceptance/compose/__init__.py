"""A Compose project without containers: the same programs with the same files, users, networks and variables.

The project is read by the library of Docker Compose. Each service runs in namespaces of its own, made by `unshare`:
its root directory, network and processes are what a container would have. Programs are those of this system.
"""
