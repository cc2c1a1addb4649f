"""Python imports this when it starts, where tests/warm_start.py has put this folder on its path: see there.

A process that is one of COMMANDS hands its work to a fork of the server, waits for it, and ends as it does.
"""

import os
import sys
from pathlib import Path

COMMANDS = ("dacsm", "snakemake", "dvc")


def work() -> list[str]:
    """The command of this process, as words, if it is one of those: `-m dacsm …`, or a program of that name."""
    words = sys.orig_argv[1:]
    is_program = words and Path(words[0]).name in COMMANDS and Path(words[0]).parent == Path(sys.executable).parent
    return words if is_program or words[:2] == ["-m", "dacsm"] else []


def hand_over(words: list[str], place: str) -> int:
    """The exit code of the fork; this process ends by the signal that ended the fork, if one did."""
    import json
    import signal
    import socket

    request = {"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(place)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _frame: server.send(bytes([number])))
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
        code = int(server.recv(16) or -signal.SIGKILL)
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if (server := os.environ.get("DACSM_TESTS_WARM")) and (words := work()):
    os._exit(hand_over(words, server))
