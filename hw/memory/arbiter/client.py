"""What an arbiter knows of a client."""

import keyword
from dataclasses import dataclass

from hw.memory.port import REQUEST_BURSTS

#: The largest weight.
MOST_WEIGHT = 16


@dataclass(frozen=True, kw_only=True)
class Client:
    """A reader or a writer of a memory channel.

    Parameters
    ----------
    name
        Name of its port: a lower-case identifier, no keyword.
    tag_bits
        Bits of its tags, 1 to 16.
    writes
        Whether it writes; a client that does both has two ports.
    weight
        Its share under load, next to the weights of the others: 1 to 16.

    Raises
    ------
    ValueError
        A parameter is not legal.
    """

    name: str
    tag_bits: int
    writes: bool = False
    weight: int = 1

    def __post_init__(self) -> None:
        if (
            not self.name.isidentifier()
            or self.name != self.name.lower()
            or keyword.iskeyword(self.name)
        ):
            raise ValueError(f"name must be a lower-case identifier, not {self.name!r}")
        for field, most in (("tag_bits", 16), ("weight", MOST_WEIGHT)):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ValueError(
                    f"{field} of client {self.name!r} must be 1 to {most}, not {value!r}"
                )

    @property
    def quantum(self) -> int:
        """Bursts that a turn is worth: the longest request at least, so that no turn is empty."""
        return self.weight * REQUEST_BURSTS
