"""Why an expression has no answer."""


class PromqlError(Exception):
    """A query that cannot be parsed or evaluated; the message is for the person who wrote it."""

    kind = "execution"


class BadQueryError(PromqlError):
    """The expression itself is wrong: Prometheus' ``bad_data``."""

    kind = "bad_data"


class UnsupportedError(BadQueryError):
    """Valid PromQL that this subset leaves out."""

    def __init__(self, what: str, supported: str) -> None:
        super().__init__(f"{what} is not part of the practice estate's PromQL; supported: {supported}")
