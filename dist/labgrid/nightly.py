#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Runs `tlbdiff nightly` on the board of a labgrid place, which it takes and gives back.

usage: LG_PLACE=NAME LG_COORDINATOR=HOST:PORT nightly.py [TLBDIFF OPTION...] PATH...

labgrid knows where the board is and who has it; tlbdiff does the rest over SSH. With
LG_SSH_CONFIG, a file, ssh is told so. Ends as tlbdiff does; 69 where the place cannot be
had.
"""

import os
import signal
import subprocess
import sys

from labgrid import Environment

COULD_NOT_RUN = 69


class Ended(Exception):
    """Somebody wants this to end; the first argument is the signal."""


def client(*words):
    """labgrid-client, which keeps who has which place. Ctrl-C is not for it."""
    command = ["labgrid-client", "-p", os.environ["LG_PLACE"], *words]
    return subprocess.run(command, check=False, start_new_session=True).returncode


def board():
    """The address of the place's board, as --backend takes it."""
    here = os.path.dirname(os.path.abspath(__file__))
    environment = Environment(os.path.join(here, "env.yaml"))
    service = environment.get_target("main").get_resource("NetworkService")
    port = f":{service.port}" if service.port != 22 else ""
    return f"ssh:{service.username}@{service.address}{port}"


def nightly(backend, arguments):
    command = ["tlbdiff", "nightly", "--backend", backend]
    command += ["--board", os.environ["LG_PLACE"]]
    if os.environ.get("LG_SSH_CONFIG"):
        command += ["--ssh-config", os.environ["LG_SSH_CONFIG"]]
    # It ends in order when it is asked to, once, and the place is given back after that.
    with subprocess.Popen(command + arguments, start_new_session=True) as child:
        while True:
            try:
                code = child.wait()
                return code if code >= 0 else 128 - code
            except Ended as ended:
                child.send_signal(ended.args[0])


def end(number, _frame):
    """Raises what a signal asks for."""
    raise Ended(number)


def main():
    if not os.environ.get("LG_PLACE") or len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    if client("acquire"):
        return COULD_NOT_RUN
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        try:
            backend = board()
        except Ended as ended:
            return 128 + ended.args[0]
        except Exception as error:  # whatever it is, it says nothing of the kernel
            print(f"nightly.py: no board at this place: {error}", file=sys.stderr)
            return COULD_NOT_RUN
        return nightly(backend, sys.argv[1:])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        client("release")


if __name__ == "__main__":
    sys.exit(main())
