"""Questions to a person, each of which Enter answers."""

import re
from collections.abc import Callable, Sequence

from dacsm.runtime.errors import InputError, printable

# A question, the words that may be its answer, what Enter means, and whether several words may be: the words.
Ask = Callable[..., list[str]]


def take(_question: str, _words: Sequence[str], default: str, several: bool = False) -> list[str]:
    """What is proposed, where nobody is to be asked."""
    return [default]


def ask(question: str, words: Sequence[str], default: str, several: bool = False) -> list[str]:
    """What a person answers; asks again until it is one of the words. Raises InputError where the input ends."""
    how = "one, or several with commas," if several else "one"
    while True:
        try:
            answer = input(f"\n{question}\n  {how} of {', '.join(words)} [{default}]: ")
        except EOFError as error:
            raise InputError("no answer came, and nothing was written; --yes takes what is proposed.") from error
        given = list(dict.fromkeys(word for word in re.split(r"[,\s]+", answer) if word)) or [default]
        if set(given) <= set(words) and (several or len(given) == 1):
            return given
        print(f"{printable(answer.strip())!r} is not {how} of {', '.join(words)}.")
