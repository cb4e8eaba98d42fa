"""Watches the server's answers go by, to know where one ends; changes nothing and holds nothing back."""

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_FIRST_FINAL = 200


class AnswerWatch:
    """One answer, with the interim ones before it."""

    def __init__(self, method: bytes) -> None:
        self.begun = False
        """Has any byte of it come?"""
        self.done = False
        """Has all of it come? Never, where it ends with the connection or is not understood."""
        self._bare = method == b"HEAD"
        self._parser: HttpResponseParser | None = HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        """See httptools, as for the next: an answer to HEAD has no body, whatever it says."""
        if self._bare and self._status() >= _FIRST_FINAL:
            self.done = True

    def on_message_complete(self) -> None:
        """Interim answers are complete messages too."""
        if self._status() >= _FIRST_FINAL:
            self.done = True

    def _status(self) -> int:
        return self._parser.get_status_code() if self._parser is not None else 0

    def feed(self, data: bytes) -> None:
        """See some of it go by."""
        self.begun = True
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._parser = None
        if self.done:
            self._parser = None  # parser and watch know each other
