"""A command that is a fork of the server shows what a process of its own shows, and ends as it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm_start import CLIENT, SERVER, warm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SERVER not in os.environ, reason="there is no server on this system"),
]
PROGRAMS = {
    "a code": "sys.exit(3)",
    "a sentence": "sys.exit('not so')",
    "an error": "raise ValueError('a mistake')",
    "nothing": "",
    "a signal": "os.kill(os.getpid(), signal.SIGTERM)",
    "what is done at the end": "import atexit; atexit.register(print, 'the end')",
    "a thread": "import threading; threading.Timer(0.2, print, ['it is waited for']).start()",
    "its input": "print(sys.stdin.read().upper())",
    "its place": "print(os.getcwd(), sys.argv[1:], os.environ['GIVEN'], __name__, __file__)",
    "its path": f"print([place for place in sys.path if place != {str(CLIENT)!r}])",
    "its letters": "print('→', sys.stdout.encoding, sys.stdout.errors, sys.stderr.errors, sys.stderr.line_buffering)",
    "no server inside": "import subprocess; print(subprocess.run([sys.executable, '-c', 'print(1)'], check=True))",
}


def write(folder: Path, program: str) -> None:
    (folder / "dacsm").mkdir()
    (folder / "dacsm/__main__.py").write_text(f"import os, signal, sys\nprint('begun', flush=True)\n{program}\n")


def start(folder: Path, server: bool = True) -> subprocess.Popen:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CLIENT.parent), "GIVEN": "a value"}
    return subprocess.Popen(
        [sys.executable, "-m", "dacsm", "a", "b c"],
        cwd=folder,
        env=warm(environment) if server else environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_fork_shows_what_a_process_shows(program: str, tmp_path: Path) -> None:
    write(tmp_path, program)
    found = []
    for server in (True, False):
        process = start(tmp_path, server)
        out, err = process.communicate("some input")
        found.append((process.returncode, out, err.splitlines()[-1:]))
    assert found[0] == found[1]
    assert out.startswith("begun\n")


def test_a_fork_has_the_libraries_and_its_own_dacsm(tmp_path: Path) -> None:
    write(tmp_path, "print('torch' in sys.modules, [name for name in sys.modules if name.startswith('dacsm.')])")
    assert start(tmp_path).communicate()[0].splitlines()[1] == "True []"


def test_it_is_interrupted_as_a_process_is(tmp_path: Path) -> None:
    waits = "    print('waits', flush=True)\n    time.sleep(60)"
    write(tmp_path, f"import time\ntry:\n{waits}\nexcept KeyboardInterrupt:\n    sys.exit(7)")
    process = start(tmp_path)
    assert [process.stdout.readline() for _ in range(2)] == ["begun\n", "waits\n"]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 7


def test_it_dies_with_the_process_that_asked(tmp_path: Path) -> None:
    write(tmp_path, "import time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    process = start(tmp_path)
    assert process.stdout.readline() == "begun\n"
    fork = int(process.stdout.readline())
    assert fork != process.pid
    process.kill()
    assert process.wait() == -signal.SIGKILL
    for _ in range(300):
        if not Path(f"/proc/{fork}").exists():
            return
        time.sleep(0.1)
    raise AssertionError("it outlived the process")
