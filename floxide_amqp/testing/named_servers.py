"""What launchers have in common for a server that somebody else runs: it can be used, not mistreated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NoReturn

from floxide_amqp.exceptions import ConfigurationError


class NamedServer(ABC):
    """A running server of somebody else, whose URL the environment names."""

    is_mine = False
    product: ClassVar[str]
    variable: ClassVar[str]
    """The variable of the environment that names it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def start(self) -> None:
        """Check that it answers.

        Raises:
            ConfigurationError: It does not.
        """
        if not self._answers():
            raise ConfigurationError(
                f"No {self.product} answers at the URL in {self.variable}; start it, or unset the variable."
            )

    def stop(self) -> None:
        """Refuse."""
        self._refuse()

    def kill(self) -> None:
        """Refuse."""
        self._refuse()

    def restart(self) -> None:
        """Refuse."""
        self._refuse()

    def wipe(self) -> None:
        """Refuse."""
        self._refuse()

    def pause(self) -> None:
        """Refuse."""
        self._refuse()

    def resume(self) -> None:
        """Refuse."""
        self._refuse()

    def close(self) -> None:  # noqa: B027 - nothing to do is what most do
        """Leave it as it is."""

    @abstractmethod
    def _answers(self) -> bool:
        """Tell whether one can log in."""

    def _refuse(self) -> NoReturn:
        raise ConfigurationError(
            f"The {self.product} named by {self.variable} is not ours to stop or change; unset the variable."
        )
