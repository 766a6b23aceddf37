"""A program that is interrupted while it is imported, as by Ctrl-C at a terminal."""

import os
import signal
import sys

for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    os.kill(os.getpid(), number)
if __name__ == "__main__":
    print(*sys.argv[1:])
