"""ServerSettings: limits that hold for every request. Each is checked before the model is touched."""

import ipaddress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

DEFAULT_PORT = 8000


class ServerSettings(BaseModel):
    """port 0 takes any free port. max_tokens is what one answer may have and what an unlimited chat request gets.

    max_context_tokens bounds prompt and answer together, below the base's own limit; max_requests is how many may be
    running or waiting before the next one is told to come back later; max_batch how many of them are answered at a
    time, and max_batch_tokens how many tokens these may hold together, each counted as long as the longest may get with
    its prompt and answer, to which the others are padded; prompt_cache_bytes is what may be kept of prompts that were
    read, for those that begin alike: 0 keeps nothing, None takes a quarter of a GPU's memory that is free beside the
    base, or 1 GiB of host memory; max_rank, max_adapter_bytes (of an adapter's files together) and max_adapters bound
    what adapters take of the memory. drain_seconds is how long requests may go on with an adapter that was replaced or
    unloaded, and those that run when a job of the same home wants the card. yields_card False: the server keeps it.
    traffic_log is the file to which answers are recorded while a second version of a name is tried, None: they are not;
    traffic_prompts keeps what was asked too. audit_required: there are no answers while the log of who asked what
    cannot be written; audit_prompts keeps in it what was asked. trust says whose adapters are taken, a policy or a
    public key as in contracts/trust.py, None: trust.yaml of the home, if it is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=DEFAULT_PORT, ge=0, le=65535)
    max_tokens: int = Field(default=2048, ge=1)
    max_context_tokens: int = Field(default=16384, ge=2)
    max_body_bytes: int = Field(default=4 << 20, ge=1024)
    max_requests: int = Field(default=32, ge=1)
    max_batch: int = Field(default=16, ge=1)
    max_batch_tokens: int = Field(default=65536, ge=2)
    prompt_cache_bytes: int | None = Field(default=None, ge=0)
    max_adapters: int = Field(default=16, ge=1)
    max_rank: int = Field(default=256, ge=1)
    max_adapter_bytes: int = Field(default=8 << 30, ge=1)
    drain_seconds: float = Field(default=300.0, ge=0)
    shutdown_seconds: int = Field(default=5, ge=0)
    yields_card: bool = True
    traffic_log: Path | None = None
    traffic_prompts: bool = False
    audit_required: bool = False
    audit_prompts: bool = False
    trust: Path | None = None

    @field_validator("host")
    @classmethod
    def _loopback(cls, host: str) -> str:
        # There are no keys yet: who reaches the port may use and change everything behind it
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError("the server listens on loopback only")
        return host
