"""C{python -m benchmarks NAME}: run one workload and print what came out."""

import argparse
import signal
import sys

from benchmarks import accept, commit, large, memory, mixed, relay, soak

WORKLOADS = {
    "accept": accept,
    "commit": commit,
    "large": large,
    "memory": memory,
    "mixed": mixed,
    "relay": relay,
    "soak": soak,
}


def main() -> int:
    """Parse the command line and run.

    @return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    names = parser.add_subparsers(required=True, metavar="NAME")
    for name, workload in WORKLOADS.items():
        summary = (workload.__doc__ or "").partition("\n\n")[0]
        command = names.add_parser(name, help=summary, description=workload.__doc__)
        workload.arguments(command)
        command.set_defaults(run=workload.run)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all is cleaned up
    options.run(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
