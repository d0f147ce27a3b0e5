"""Performance counters: declared by the unit that owns the event, collected by the top."""

from collections.abc import Mapping, Sequence

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.config import FORMAT_VERSION, AttentionConfig

COUNTER_BITS = 32
COUNTER_MAX = (1 << COUNTER_BITS) - 1


class Counter:
    """One thing to count: a unit makes it in ``__init__`` and drives ``event`` in ``elaborate``.

    It costs nothing until a `CounterBank` counts it.

    Parameters
    ----------
    name
        Lower-case identifier, unique within the unit.
    description
        When it counts, one sentence fragment for the register map.
    unit
        What one count is, such as ``cycles`` or ``beats``.
    event_bits
        Bits of ``event``, 1 to 16.

    Members
    -------
    event
        ``Signal(event_bits)``: how much this cycle adds.

    Raises
    ------
    ValueError
        A name that is no lower-case identifier, an empty text, or an illegal width.
    """

    def __init__(
        self, name: str, description: str, *, unit: str = "cycles", event_bits: int = 1
    ) -> None:
        if not name.isidentifier() or name != name.lower():
            raise ValueError(f"name must be a lower-case identifier, not {name!r}")
        for field, text in (("description", description), ("unit", unit)):
            if not text:
                raise ValueError(f"{field} of counter {name!r} must not be empty")
        if not 1 <= event_bits <= 16:
            raise ValueError(f"event_bits of counter {name!r} must be 1 to 16, not {event_bits!r}")
        self.name = name
        self.description = description
        self.unit = unit
        self.event = Signal(event_bits, name=f"count_{name}")


class CounterBank(wiring.Component):
    """Counts events one cycle after they happen; a register is read one cycle after its address.

    Register 0 is the config hash, 1 the format version, then come the counters, owner after owner.
    Every register has 32 bits. A counter stops at 2**32 - 1 rather than wrap, so a figure is either
    exact or visibly at its end. Addresses beyond the last register read 0.

    Parameters
    ----------
    config
        The configuration whose hash identifies the core.
    counters
        Per owner (the instance name of the unit) its counters, in address order.
    identity
        The owner of registers 0 and 1, where a design has several banks.

    Members
    -------
    address : In
        Register number.
    read_data : Out(32)
        The register at the address of the previous cycle.
    clear : In(1)
        Zeroes the counters; events of the same cycle are the first that count again.

    Raises
    ------
    ValueError
        Two counters of one owner have the same name.
    """

    def __init__(
        self,
        config: AttentionConfig,
        *,
        counters: Mapping[str, Sequence[Counter]],
        identity: str = "core",
    ) -> None:
        self._owner = identity
        self._identity = (
            ("config_hash", config.config_hash, "hash over all parameters and the format version"),
            ("format_version", FORMAT_VERSION, "version of records, streams and rounding"),
        )
        self._counters = [
            (owner, counter) for owner, group in counters.items() for counter in group
        ]
        names = [(owner, counter.name) for owner, counter in self._counters]
        for owner, name in names:
            if names.count((owner, name)) > 1:
                raise ValueError(f"{owner} has two counters named {name!r}")
        self._registers = len(self._identity) + len(self._counters)
        super().__init__(
            {
                "address": In(range(self._registers)),
                "read_data": Out(COUNTER_BITS),
                "clear": In(1),
            }
        )

    def describe(self) -> list[dict[str, object]]:
        """Return every register in address order, for the JSON sidecar and the register map."""
        rows: list[tuple[str, str, str, str]] = [
            (self._owner, name, "", description) for name, _, description in self._identity
        ]
        rows += [(owner, c.name, c.unit, c.description) for owner, c in self._counters]
        return [
            {
                "name": name,
                "address": address,
                "width": COUNTER_BITS,
                "unit": unit,
                "description": description,
                "owner": owner,
            }
            for address, (owner, name, unit, description) in enumerate(rows)
        ]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        words = [value for _, value, _ in self._identity]
        counts = []
        for owner, counter in self._counters:
            # The event is often the end of a long path: it gets a cycle of its own.
            event = Signal.like(counter.event, name=f"{owner}_{counter.name}_event")
            count = Signal(COUNTER_BITS, name=f"{owner}_{counter.name}")
            total = count + event
            m.d.sync += [
                event.eq(counter.event),
                count.eq(Mux(total[COUNTER_BITS], COUNTER_MAX, total)),
            ]
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            counts.append(count)
        m.d.sync += self.read_data.eq(0)
        with m.Switch(self.address):
            for address, word in enumerate([*words, *counts]):
                with m.Case(address):
                    m.d.sync += self.read_data.eq(word)
        return m
