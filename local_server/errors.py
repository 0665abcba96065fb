"""Errors that reach a person: start-up errors end the process with one line, request errors are replies."""

from __future__ import annotations


class StartupError(Exception):
    """The server can't start as asked; the message is one line with the fix."""


class RequestError(Exception):
    """A request that can't be served, in OpenAI's error shape.

    status: HTTP status. param: the field at fault. code: OpenAI's name for it. retry_after: seconds, for 503.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code
        self.retry_after = retry_after

    def body(self) -> dict[str, object]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code or self.status}
        }
