"""A request that is answered with an error."""

from __future__ import annotations

from collections.abc import Mapping

_LONGEST = 390  # characters: what a client calls its inputs may be as long as its request


class Refused(Exception):
    """A request, or one picture of it, that gets no result; the sentence is all that the client sees.

    Attributes:
        status: of HTTP, 4xx where the client can mend it.
        sentence: what is wrong and what to do.
        headers: to add to the answer.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        # JSON may spell halves of characters, which cannot be sent back as they are.
        sentence = sentence.encode("utf-8", "backslashreplace").decode()
        sentence = sentence if len(sentence) <= _LONGEST else f"{sentence[:_LONGEST]} ..."
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.headers = dict(headers or {})


class OtherSize(Refused):
    """A picture that is not of the only size that the model was exported for."""
