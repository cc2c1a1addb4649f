"""The one exception that a user is meant to read, and what can be shown of texts that may say anything."""

import re

CODES = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    """A name, or what a server says, in one line, without codes that a terminal obeys or a log cannot hold."""
    return CODES.sub(lambda found: repr(found[0])[1:-1], text)


class InputError(Exception):
    """Something that the user gave cannot be used.

    Its text is one sentence: the file or key, what was found, what was expected, and what to do. The command line
    prints it and ends with exit code 2, without a traceback.
    """

    def __str__(self) -> str:
        # Where a loader's worker raises it, torch puts the worker's traceback before the sentence.
        return printable(super().__str__().rpartition(f"{__name__}.InputError: ")[2].rstrip("\n"))
