"""Commands of a test's project that start in a moment: each is a fork of a process that has the libraries loaded.

Where a model trains for a second, a job of Snakemake spends nearly all of its time on importing torch, timm and the
like. So a server imports them once for all tests. It knows nothing of dacsm, which each fork imports from where the
command would, in the folder, environment and streams of the process that asked. That process (warm/sitecustomize.py)
waits, passes signals on, and ends with the fork's exit code or signal; when it dies, so does its fork.

Three things differ from processes of their own: sets are in the order of the server's seed of hashes, a library may be
there before dacsm asks for it, and signals come a moment later. So tests of kills have processes of their own, and
each stage is run in one by some test.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

CLIENT = Path(__file__).parent / "warm"
SERVER = "DACSM_TESTS_WARM"  # the variable that says where the server listens
LIBRARIES = (
    *("torch", "torch.distributed", "torch.utils.data", "timm", "safetensors.torch", "webdataset", "simplejpeg"),
    *("numpy", "scipy.stats", "scipy.optimize", "sklearn.metrics", "pandas", "PIL.Image", "tabulate"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "jinja2", "pydantic", "requests", "rich.progress"),
    *("snakemake.cli", "snakemake.workflow", "dvc.cli", "dvc.repo", "dvc.repo.reproduce"),
)


@contextmanager
def server(variables: Iterable[str]) -> Iterator[None]:
    """A server for this process and those it starts; when it is first asked, it loads the libraries.

    It gets the named variables of this process's environment.
    """
    if not sys.platform.startswith("linux"):  # elsewhere, libraries do not stand a fork
        yield
        return
    with TemporaryDirectory(prefix="dacsm-tests-") as folder:
        place = f"{folder}/server"
        given = {name: os.environ[name] for name in variables if name in os.environ}
        process = subprocess.Popen(
            [sys.executable, __file__, place], env={"HOME": folder, "OMP_NUM_THREADS": "1", **given},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        with process:  # at its end, the server's input ends, and so does the server
            assert process.stdout.readline() == b"ready\n"
            os.environ[SERVER] = place
            try:
                yield
            finally:
                del os.environ[SERVER]


def warm(environment: dict[str, str]) -> dict[str, str]:
    """An environment in which commands are forks of the server, where there is one."""
    if SERVER not in os.environ:
        return environment
    path = os.pathsep.join([str(CLIENT), environment["PYTHONPATH"]])
    return environment | {SERVER: os.environ[SERVER], "PYTHONPATH": path}


def serve(place: str) -> dict[str, Any]:
    """Answer until the input ends. It returns in each fork, with what that is to do."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for the forks
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(place)
        listener.listen(64)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            load()
            with listener.accept()[0] as client:
                if os.fork():
                    continue
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                message, streams, _, _ = socket.recv_fds(client, 1 << 20, 3)
                fork = os.fork()
                os.setpgid(fork, fork)  # by both, so that neither goes on before it is done
                if fork:
                    wait_for(fork, client)
                return json.loads(message) | {"streams": streams}
    sys.exit()


def load() -> None:
    """Import the libraries, unless that is done."""
    if LIBRARIES[-1] not in sys.modules:
        path = sys.path.copy()
        for library in LIBRARIES:
            import_module(library)
        sys.path[:] = path  # as it was before Snakemake
        gc.freeze()  # so that no fork looks through them for garbage


def wait_for(fork: int, client: socket.socket) -> NoReturn:
    """Pass on signals from the client to the fork and those it started, and how it ended to the client."""
    ended = os.pidfd_open(fork)
    while ended not in select.select([ended, client], [], [])[0]:
        (number,) = client.recv(1) or [signal.SIGKILL]  # nothing comes from one that died
        os.killpg(fork, number)
        if number == signal.SIGKILL:
            break
    code = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    with suppress(OSError):
        client.send(str(code).encode())
    os._exit(0)


def become(request: Mapping[str, Any]) -> None:
    """Do in this process what the client was started for, as Python would."""
    for number, stream in enumerate(request["streams"]):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0, errors=sys.stdin.errors, closefd=False)
    sys.stdout = os.fdopen(1, "w", errors=sys.stdout.errors, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.modules["numpy"].random.seed()
    program, *arguments = sys.argv = request["words"]
    first = request["folder"] if program == "-m" else str(Path(program).parent)
    sys.path[:1] = [first, *os.environ["PYTHONPATH"].split(os.pathsep)]
    if program == "-m":
        sys.argv = arguments
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


def code_of(request: Mapping[str, Any]) -> int:
    """The exit code that Python would end with."""
    try:
        become(request)
    except SystemExit as ended:
        if isinstance(ended.code, int | None):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    code = code_of(serve(sys.argv[1]))
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # Python would also free all that the libraries have, which takes half a second
