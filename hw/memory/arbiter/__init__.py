"""Many clients at one memory channel (docs/memory.md, section 2)."""

from hw.memory.arbiter.arbiter import ChannelArbiter
from hw.memory.arbiter.client import Client

__all__ = ["ChannelArbiter", "Client"]
