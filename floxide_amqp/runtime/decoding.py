"""Decoding what is stored for a step: what its types do not read is no failure of the step, its item is set aside."""

from __future__ import annotations

from floxide_amqp.core.payload import PayloadType
from floxide_amqp.exceptions import NewerFormatError, StoreError, UndecodableError
from floxide_amqp.runtime.execution import USER_ERRORS
from floxide_amqp.stores.encoding import decode_payload


def decode_stored(kind: PayloadType, payload: bytes, what: str) -> object:
    """Return the value that a stored payload stands for.

    Args:
        kind: The type that this code reads it as.
        payload: The payload, opened.
        what: What it is, as the subject of a sentence: ``"The input of node 'charge'"``.

    Raises:
        UndecodableError: It is of another type; the item that needs it is to be set aside.
        NewerFormatError: A newer release wrote it.
    """
    try:
        return decode_payload(kind, payload)
    except (NewerFormatError, StoreError, UndecodableError):
        raise
    except USER_ERRORS as error:  # user types decode here
        raise UndecodableError(what=what, problem=sentence_of(error)) from error


def sentence_of(error: BaseException) -> str:
    """Return an error as a sentence, with its class where it says nothing else."""
    text = str(error) if isinstance(error, Exception) and str(error) else type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
