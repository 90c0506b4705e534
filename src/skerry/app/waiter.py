"""What a group's process is while nothing happens: it waits for a signal, then becomes ``skerry up`` again.

It runs by its path, without site packages and without the rest of Skerry, so that a supervisor that has nothing to do
costs 4 MB. Arguments: the program to become. The signals are blocked by who became this, and stay so.
"""

import os
import signal
import sys

if __name__ == "__main__":
    told = signal.sigwait({signal.SIGCHLD, signal.SIGINT, signal.SIGTERM})
    os.execve(sys.argv[1], sys.argv[1:], {**os.environ, "SKERRY_GROUP_TOLD": str(int(told))})
