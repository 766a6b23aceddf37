"""Becomes a program that mail is given to: C{python -I -S launch.py USER DIRECTORY
PROGRAM ARGUMENT...}.

The server itself is large and has threads, so it does not fork: it starts this, which
makes a session of its own (so that all of the program's processes can be ended
together), gives up its rights, and is the program from then on. The environment and
the descriptors are the server's to choose; the environment has the names of what the
program gets of it, since Python adds to it (PEP 538). It runs without the rest of
twisted-mta and imports next to nothing: 10 ms.
"""

import os
import pwd
import signal
import sys

#: The variable with the names of the others, with commas between.
NAMES = "TWISTED_MTA_NAMES"
#: The same as EX_TEMPFAIL: what cannot be run now waits.
FAILED = 75


def main() -> None:
    """Does not return."""
    user, directory, *command = sys.argv[1:]
    names = filter(None, os.environ[NAMES].split(","))
    environment = {name: os.environ[name] for name in names}
    try:
        os.setsid()
        if user:
            entry = pwd.getpwnam(user)
            os.initgroups(user, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
        os.umask(0o077)
        os.chdir(directory)
        # What Python ignores a program would inherit.
        for each in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(each, signal.SIG_DFL)
        os.execve(command[0], command, environment)
    except (OSError, KeyError) as error:
        why = getattr(error, "strerror", None) or f"no user {user}"
        os.write(1, f"4.3.5 {command[0]} cannot be run: {why}\n".encode())
        os._exit(FAILED)


if __name__ == "__main__":
    main()
