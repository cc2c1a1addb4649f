"""The command line: `dacsm COMMAND …`; how a command ends, and what it leaves in a log."""

import argparse
import errno
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from dacsm import __version__
from dacsm.cli.commands import add_commands
from dacsm.runtime.errors import InputError
from dacsm.runtime.processes import first

BAD_INPUT = 2  # exit code where the user can mend it
INTERRUPTED = 130
PROGRAMS = ("git",)  # that commands call, and that a machine may lack

DESCRIPTION = """\
Unsupervised domain adaptation from a labelled source to an unlabelled target domain.
Usually `snakemake` calls the stages in order; each also runs by hand, from the project's folder."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Bad input ends in one sentence on stderr and exit code 2."""
    _open_streams()
    args = command_line().parse_args(arguments)
    try:
        with _logged(getattr(args, "log", None) if first() else None):
            try:
                code = args.command(args) or 0
                sys.stdout.flush()
                return code
            except BrokenPipeError:  # who reads has seen enough, as `head` has
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            except KeyboardInterrupt:
                return _fail("interrupted.", INTERRUPTED)
            except Exception as error:
                sentence = _sentence(error)
                if sentence is None:
                    raise
                return _fail(sentence, BAD_INPUT)
    except InputError as error:  # the log itself cannot be written
        return _fail(str(error), BAD_INPUT)
    return 0


def _open_streams() -> None:
    """Let all be printed that a command prints: where a stream is closed, and whatever letters it can show."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def command_line() -> argparse.ArgumentParser:
    """The parser of all commands; the reference of the documentation is made from it."""
    parser = _Parser(prog="dacsm", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"dacsm {__version__}")
    commands = parser.add_subparsers(title="commands, in the order of the pipeline", metavar="COMMAND", required=True)
    add_commands(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one sentence, as all else."""

    def error(self, message: str) -> NoReturn:
        raise SystemExit(_fail(f"{message}; see `{self.prog} --help`.", BAD_INPUT))


def _fail(sentence: str, code: int) -> int:
    print(f"dacsm: {sentence}", file=sys.stderr)
    return code


def _sentence(error: Exception) -> str | None:
    """What a user can do about an error, or None where it is a mistake of ours and its traceback should be seen."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'a file'} cannot be written: {error.strerror}; free the place and run again."
    if isinstance(error, FileNotFoundError) and error.filename in PROGRAMS:
        return f"the program {error.filename} was not found; install it, or add its folder to PATH."
    # torch has its own classes for memory that ran out; naming them here would import torch.
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "can't allocate memory" in str(error):
        return "the memory ran out; run fewer jobs at once, or choose a smaller batch_size in params.yaml."
    return None


@contextmanager
def _logged(log: Path | None) -> Iterator[None]:
    """Copy what is printed to a log file as well."""
    if log is None:
        yield
        return
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        # A line at a time, so that it can be followed.
        file = log.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise InputError(f"--log {log} cannot be written: {error.strerror}; name another file.") from error
    out, err = _Both(sys.stdout, file), _Both(sys.stderr, file)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    except Exception:
        err.note(traceback.format_exc())  # Python prints it to the terminal itself, after the log is closed
        raise
    finally:
        with suppress(OSError):
            file.close()


class _Both:
    """A text stream that writes to a terminal and to a file; in most else it is the terminal."""

    def __init__(self, terminal: TextIO, file: TextIO) -> None:
        self.terminal, self.file = terminal, file

    def write(self, text: str) -> int:
        self.note(text)
        return self.terminal.write(text)

    def note(self, text: str) -> None:
        """Write to the file alone; where its disk is full, the run goes on without a log."""
        with suppress(OSError):
            self.file.write(text)

    def isatty(self) -> bool:
        """No: a file takes no bar, and Snakemake's jobs, which all have a log, would draw theirs over another's."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)
