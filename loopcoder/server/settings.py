"""What the server allows and how long it waits. No torch."""

from dataclasses import dataclass

from loopcoder.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Address, keys and limits. Times are in seconds.

    No `api_keys`: everyone who reaches the port may ask. `max_queue` sequences wait beside those
    that run, more are told 429. `request_timeout` is for one request as a whole. When told to stop,
    the server lets running requests finish for `drain_timeout`. `max_tokens` None: as many as the
    model has positions. `max_schema_bytes` is for a grammar, a schema or all tools of a request.

    Raises `RequestError`, naming the field, for a value out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    served_model_name: str | None = None
    max_queue: int = 256
    request_timeout: float = 600.0
    body_timeout: float = 30.0
    drain_timeout: float = 30.0
    max_body_bytes: int = 8 * 2**20
    max_prompts: int = 64
    max_n: int = 16
    max_tokens: int | None = None
    max_stop: int = 16
    max_stop_length: int = 256
    max_logprobs: int = 20
    max_tools: int = 128
    max_schema_bytes: int = 64 * 2**10
    log_prompts: bool = False

    def __post_init__(self) -> None:
        """Check every range."""
        for name in (
            "max_body_bytes",
            "max_prompts",
            "max_n",
            "max_tokens",
            "max_stop",
            "max_stop_length",
            "max_tools",
            "max_schema_bytes",
        ):
            self._check(name, 1)
        for name in ("port", "max_queue", "max_logprobs", "drain_timeout"):
            self._check(name, 0)
        if self.port > 65535:
            raise RequestError(f"port is {self.port}; give 0 (any free one) to 65535")
        for name in ("request_timeout", "body_timeout"):
            if not getattr(self, name) > 0:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be above 0")
        for key in self.api_keys:
            if not (key and key.isascii() and key.isprintable()) or key.split() != [key]:
                raise RequestError("an API key is empty or has spaces or characters beyond ASCII")

    def _check(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is not None and value < least:
            raise RequestError(f"{name} is {value}; it must be at least {least}")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in ("127.0.0.1", "::1", "localhost")
