"""What else could do the daemon's work: other runtimes and libraries, as their users would write it.

Each is a process of its own over the same sockets and records, run by the interpreter of build/bench/venv.
"""
