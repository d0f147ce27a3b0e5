"""Many clients at one memory channel."""

from collections.abc import Sequence

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.counters import Counter
from hw.memory.arbiter.client import Client
from hw.memory.arbiter.schedule import WAIT_BITS, Schedule
from hw.memory.arbiter.write_order import WriteOrder
from hw.memory.channel_port import channel_port, channel_request
from hw.memory.port import read_port, write_port

#: Names of the arbiter's own ports.
_RESERVED = ("channel", "clear", "longest_wait")


class ChannelArbiter(wiring.Component):
    """Latency 1 cycle each way; one request, one word to write, one answer and one end a cycle.

    Requests are granted by `Schedule`: bytes are shared as the weights are, and a client waits at
    most ``patience`` cycles and then one request of each other client. The data of writers follow
    in the order of their granted requests; answers go to their client by the ``id``, which is the
    client's number and its tag.

    Parameters
    ----------
    clients
        1 to 16 of them; the numbers are their places.
    gear
        Beats of 16 bytes in a clock, of the channel and of every client: 1 or 2.
    patience
        Cycles until a waiting client goes first, 1 to 65535.
    write_requests
        Granted write requests whose data may be outstanding, at least 2; a writer waits for room.

    Members
    -------
    <name of a client> : In(read_port or write_port)
        ``response.ready`` and ``written.ready`` must be high. A writer sends the words of a
        request whether it is granted or not: who makes them wait makes the others wait.
    channel : Out(channel_port)
    longest_wait : Out(16), per client
        Cycles, since reset or ``clear``, from the offer of a request to its grant, at most 65535.
    clear : In(1)
    counters
        Per client: requests, bursts, and cycles waited.

    Raises
    ------
    ValueError
        A parameter is not legal.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        *,
        gear: int = 1,
        patience: int = 1024,
        write_requests: int = 8,
    ) -> None:
        if not 1 <= len(clients) <= 16:
            raise ValueError(f"clients must be 1 to 16, not {len(clients)}")
        names = [client.name for client in clients]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"names of clients must differ, not {name!r} twice")
            if name in _RESERVED:
                raise ValueError(f"names of clients must be none of {_RESERVED}, not {name!r}")
        if gear not in (1, 2):
            raise ValueError(f"gear must be 1 or 2, not {gear!r}")
        if write_requests < 2:
            raise ValueError(f"write_requests must be at least 2, not {write_requests!r}")
        self._clients = tuple(clients)
        self._gear = gear
        self._write_requests = write_requests
        self._schedule = Schedule([client.quantum for client in clients], patience=patience)
        self._events = {
            client.name: (
                Counter(f"{client.name}_requests", "requests granted", unit="requests"),
                Counter(f"{client.name}_bursts", "bursts granted", unit="bursts", event_bits=5),
                Counter(f"{client.name}_waited", "cycles in which a request waited"),
            )
            for client in clients
        }
        self.counters = [counter for group in self._events.values() for counter in group]
        ports = {
            client.name: In((write_port if client.writes else read_port)(client.tag_bits, gear))
            for client in clients
        }
        super().__init__(
            {
                **ports,
                "channel": Out(channel_port(self.id_layout.size, gear)),
                "longest_wait": Out(WAIT_BITS).array(len(clients)),
                "clear": In(1),
            }
        )

    @property
    def id_layout(self) -> data.StructLayout:
        """What the ``id`` of the channel holds."""
        return data.StructLayout(
            {
                "tag": max(client.tag_bits for client in self._clients),
                "client": max(1, (len(self._clients) - 1).bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.schedule = schedule = self._schedule
        channel = self.channel
        request = channel.request
        ports = [getattr(self, client.name) for client in self._clients]
        writers = [i for i, client in enumerate(self._clients) if client.writes]

        free = Signal()
        chosen = Signal(channel_request(self.id_layout.size))
        m.d.comb += [free.eq(~request.valid | request.ready), schedule.enable.eq(free)]
        for i, (client, port) in enumerate(zip(self._clients, ports, strict=True)):
            offer = port.request
            its_id = Signal(self.id_layout, name=f"id_{client.name}")
            m.d.comb += [
                its_id.tag.eq(offer.payload.tag),
                its_id.client.eq(i),
                schedule.waiting[i].eq(offer.valid),
                schedule.bursts[i].eq(offer.payload.bursts_less_one + 1),
                offer.ready.eq(schedule.grant[i]),
            ]
            with m.If(schedule.grant[i]):
                m.d.comb += [
                    chosen.address.eq(offer.payload.address),
                    chosen.bursts_less_one.eq(offer.payload.bursts_less_one),
                    chosen.id.eq(its_id),
                    chosen.write.eq(client.writes),
                ]
        with m.If(free):
            m.d.sync += [request.valid.eq(schedule.grant.any()), request.payload.eq(chosen)]
        self._connect_writers(m, writers, ports)
        self._connect_answers(m, ports)
        self._count(m)
        return m

    def _connect_writers(
        self, m: Module, writers: list[int], ports: list[wiring.PureInterface]
    ) -> None:
        """Send the words of the writers in the order of the grants."""
        if not writers:
            return
        schedule = self._schedule
        m.submodules.write_order = order = WriteOrder(
            len(writers), gear=self._gear, depth=self._write_requests
        )
        wiring.connect(m, order.output, wiring.flipped(self.channel.write_data))
        for place, i in enumerate(writers):
            wiring.connect(m, wiring.flipped(ports[i].data), order.data[place])
            m.d.comb += schedule.blocked[i].eq(~order.granted.ready)
            with m.If(schedule.grant[i]):
                m.d.comb += [
                    order.granted.valid.eq(1),
                    order.granted.payload.client.eq(place),
                    order.granted.payload.bursts.eq(schedule.bursts[i]),
                ]

    def _connect_answers(self, m: Module, ports: list[wiring.PureInterface]) -> None:
        """Give every answer and every end of a write a register, and its client a valid."""
        for name, is_write in (("response", False), ("written", True)):
            source = getattr(self.channel, name)
            valid = Signal(name=f"{name}_valid")
            payload = Signal(source.payload.shape(), name=f"{name}_payload")
            its_id = data.View(self.id_layout, payload.id)
            m.d.comb += source.ready.eq(1)
            m.d.sync += [valid.eq(source.valid), payload.eq(source.payload)]
            for i, (client, port) in enumerate(zip(self._clients, ports, strict=True)):
                if client.writes != is_write:
                    continue
                answer = getattr(port, name)
                m.d.comb += [
                    answer.valid.eq(valid & (its_id.client == i)),
                    answer.payload.tag.eq(its_id.tag),
                    answer.payload.error.eq(payload.error),
                ]
                if not is_write:
                    m.d.comb += [
                        answer.payload.data.eq(payload.data),
                        answer.payload.beat.eq(payload.beat),
                    ]

    def _count(self, m: Module) -> None:
        """Drive the counters and the longest waits."""
        schedule = self._schedule
        for i, (requests, bursts, waited) in enumerate(self._events.values()):
            longest = self.longest_wait[i]
            granted = schedule.grant[i]
            m.d.comb += [
                requests.event.eq(granted),
                waited.event.eq(schedule.waiting[i] & ~granted),
            ]
            with m.If(granted):
                m.d.comb += bursts.event.eq(schedule.bursts[i])
            with m.If(self.clear):
                m.d.sync += longest.eq(0)
            with m.Elif(granted & (schedule.wait[i] > longest)):
                m.d.sync += longest.eq(schedule.wait[i])
