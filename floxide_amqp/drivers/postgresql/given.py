"""How numbers, texts and values are handed to the server's functions, for little time on both sides."""

from __future__ import annotations

from typing import Final

INTEGERS: Final = "text::integer[]"
"""How a parameter is spelled that `integers` makes."""

BIG_INTEGERS: Final = "text::bigint[]"

TEXTS: Final = "bytea[]"


def integers(numbers: list[int]) -> str:
    """Return an array as text: asyncpg asks of each number in a list whether it is a list, for twice the time."""
    return f"{{{str(numbers)[1:-1]}}}"


def parameters(*kinds: str) -> str:
    """Return the parameters of a call, from how each is spelled."""
    return ", ".join(f"${number}::{kind}" for number, kind in enumerate(kinds, 1))


class Given(dict[str, int]):
    """The numbers of texts, from 1 on; one that is asked for the first time gets the next.

    A text is sent once, however often rows mean it. Values are numbered with them, each for itself.

    Attributes:
        all: The parameter that texts and values are.

    Raises:
        UnicodeEncodeError: A text that is asked for is none that UTF-8 can write: half of a surrogate pair.
    """

    __slots__ = ("all",)

    def __init__(self) -> None:
        super().__init__()
        self.all: list[bytes] = []

    def __missing__(self, text: str) -> int:
        self.all.append(text.encode())
        number = self[text] = len(self.all)
        return number

    def value(self, value: bytes) -> int:
        """Return the number of a value."""
        self.all.append(value)
        return len(self.all)
