"""The one exception that a user is meant to read."""


class InputError(Exception):
    """Something that the user gave cannot be used.

    Its text is one sentence: the file or key, what was found, what was expected, and what to do. The command line
    prints it and ends with exit code 2, without a traceback.
    """

    def __str__(self) -> str:
        # Where a loader's worker raises it, torch puts the worker's traceback before the sentence.
        text = super().__str__().rpartition(f"{__name__}.InputError: ")[2].rstrip("\n")
        # Names and servers may say anything: no line break, and nothing that a terminal obeys or a log cannot hold.
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
