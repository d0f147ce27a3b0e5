"""Tiles of tail values become the beats that the PE array wants."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import BEAT_BITS, BEAT_BYTES, AttentionConfig
from hw.cores.payloads import BEAT


class TileTransposer(wiring.Component):
    """Latency C/2 + 1 cycles, of a tile 2C - 1 more; one beat a cycle, also from tile to tile.

    A tile (docs/contracts.md, section 5) comes token after token, two beats for each of C tokens;
    it leaves as 2C beats of C tokens each, in the order of a dense block's values: quad of channels
    after quad, in it byte plane after plane. Beats of other segments pass as they are, all in the
    order in which they came.

    Elements of ``16 / C`` bytes are exchanged between the C tokens and the C *lanes* of a beat, bit
    by bit of their numbers. The top bit is exchanged in the memory: its two banks have the halves
    of a beat, swapped in the upper half of the tokens, and are read at two tokens. The others are
    exchanged behind it by delaying one half of the lanes before a switch and the other behind it.
    The memory has room for two tiles.

    Parameters
    ----------
    config : AttentionConfig

    Members
    -------
    tiles : In(stream of 1 bit)
        One per segment: whether it consists of tiles. Must be there for its beats to be taken, and
        is taken with the last one.
    input, output : stream of ``BEAT``
        A segment is a whole number of bursts, or of tiles. ``error`` of a beat of a tile comes with
        some beat of the same tile.
    """

    def __init__(self, config: AttentionConfig) -> None:
        self._lanes = config.chunk
        self._planes = config.tail_value_bits // 8
        super().__init__(
            {
                "tiles": In(stream.Signature(1)),
                "input": In(stream.Signature(BEAT)),
                "output": Out(stream.Signature(BEAT)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes = self._lanes
        half = BEAT_BITS // 2
        tile_beats = 2 * lanes
        depth = 2 * tile_beats
        row_bits = (lanes // 2).bit_length() - 1

        # The ring of beats. A row of bank 0 has the flags of the beat as well.
        flagged = data.StructLayout({"data": half, "error": 1, "last": 1})
        m.submodules.bank_0 = bank_0 = Memory(shape=flagged, depth=depth, init=[])
        m.submodules.bank_1 = bank_1 = Memory(shape=half, depth=depth, init=[])
        write_0, write_1 = bank_0.write_port(), bank_1.write_port()
        read_0, read_1 = (bank.read_port(transparent_for=()) for bank in (bank_0, bank_1))
        end = Signal(range(depth))
        begin = Signal(range(depth))
        level = Signal(range(depth + 1))
        freed = Signal(range(tile_beats + 1))
        #: Which pairs of beats belong to tiles; segments are whole bursts.
        of_tile = Signal(depth // 2)

        # In: the beats of a tile are counted, token and half of its channels.
        place = Signal(range(tile_beats))
        take = self.input.valid & self.input.ready
        is_tile = self.tiles.payload
        bytes_in = _bytes(self.input.payload.data)
        ordered = Signal(BEAT_BITS)
        m.d.comb += ordered.eq(Cat(*(bytes_in[i] for i in self._lane_bytes())))
        swap_in = is_tile & place[-1]
        m.d.comb += [
            # Not the first beat of a pair whose second one, of the round before, is still there.
            self.input.ready.eq(self.tiles.valid & (level + begin[0] != depth)),
            self.tiles.ready.eq(take & self.input.payload.last),
            write_0.en.eq(take),
            write_1.en.eq(take),
            write_0.addr.eq(end),
            write_1.addr.eq(end),
            write_0.data.data.eq(Mux(swap_in, ordered[half:], ordered[:half])),
            write_0.data.error.eq(self.input.payload.error),
            write_0.data.last.eq(self.input.payload.last),
            write_1.data.eq(Mux(swap_in, ordered[:half], ordered[half:])),
        ]
        with m.If(take):
            m.d.sync += [
                end.eq(end + 1),
                place.eq(place + is_tile),
                of_tile.bit_select(end[1:], 1).eq(is_tile),
            ]
        m.d.sync += level.eq(level + take - freed)

        # Out: of a tile the rows (half of the channels, top bit and rest of the row).
        row = Signal(range(tile_beats))
        upper = row[row_bits]
        tile = Signal()
        there = Signal()
        first = Signal(range(depth))
        m.d.comb += [
            tile.eq(of_tile.bit_select(begin[1:], 1)),
            there.eq((row != 0) | Mux(tile, level >= tile_beats, level != 0)),
            first.eq(begin + Cat(row[-1], row[:row_bits])),
        ]
        control = data.StructLayout(
            {"valid": 1, "tile": 1, "row": row_bits, "error": 1, "last": 1},
        )
        #: The row that the memory's output registers hold.
        held = Signal(data.StructLayout({"valid": 1, "tile": 1, "row": row_bits, "upper": 1}))
        shift = Signal()
        load = Signal()
        issue = Signal()
        m.d.comb += [
            load.eq(shift | ~held.valid),
            issue.eq(load & there),
            read_0.en.eq(issue),
            read_1.en.eq(issue),
            read_0.addr.eq(first + Mux(tile & upper, lanes, 0)),
            read_1.addr.eq(first + Mux(tile & ~upper, lanes, 0)),
        ]
        with m.If(issue):
            m.d.sync += [held.tile.eq(tile), held.row.eq(row), held.upper.eq(tile & upper)]
            with m.If(~tile):
                m.d.comb += freed.eq(1)
            with m.Else():
                m.d.sync += row.eq(row + 1)
                with m.If(row == tile_beats - 1):
                    m.d.comb += freed.eq(tile_beats)
        with m.If(load):
            m.d.sync += held.valid.eq(there)
        m.d.sync += begin.eq(begin + freed)

        halves = read_0.data.data, read_1.data
        row_data = Signal(BEAT_BITS)
        m.d.comb += row_data.eq(Mux(held.upper, Cat(*halves[::-1]), Cat(*halves)))
        state = Signal(control)
        m.d.comb += [
            state.valid.eq(held.valid),
            # A row that is not there leaves those around it as they are.
            state.tile.eq(held.valid & held.tile),
            state.row.eq(held.row),
            state.error.eq(read_0.data.error),
            state.last.eq(read_0.data.last),
        ]
        for bit in reversed(range(row_bits)):
            row_data, state = self._exchange(m, row_data, state, bit, shift)

        bytes_out = _bytes(row_data)
        straight = Cat(*(bytes_out[self._lane_bytes().index(i)] for i in range(BEAT_BYTES)))
        per_lane = BEAT_BYTES // lanes
        transposed = Cat(
            *(bytes_out[lane * per_lane + i] for i in range(per_lane) for lane in range(lanes))
        )
        m.d.comb += [
            shift.eq(~self.output.valid | self.output.ready),
            self.output.valid.eq(state.valid),
            self.output.payload.data.eq(Mux(state.tile, transposed, straight)),
            self.output.payload.error.eq(state.error),
            self.output.payload.last.eq(state.last),
        ]
        return m

    def _lane_bytes(self) -> list[int]:
        """For each byte of the lanes, one behind the other, its place in a beat of a tile.

        A lane is one of the beats that a half of the channels becomes.
        """
        channels = BEAT_BYTES // self._planes
        per_lane = BEAT_BYTES // self._lanes
        return [
            (first + i) * self._planes + plane
            for quad in range(0, channels, 4)
            for plane in range(self._planes)
            for first in range(quad, quad + 4, per_lane)
            for i in range(per_lane)
        ]

    def _exchange(
        self, m: Module, row: Signal, state: Signal, bit: int, shift: Signal
    ) -> tuple[Signal, Signal]:
        """Exchange ``bit`` of row and lane numbers; latency ``2**bit`` shifts.

        The lanes with the bit are late by as many rows as those without it will be: so a row whose
        number has the bit meets the one without.
        """
        delay = 1 << bit
        size = BEAT_BITS // self._lanes
        lanes = [row[lane * size : (lane + 1) * size] for lane in range(self._lanes)]
        low = Signal(BEAT_BITS // 2, name=f"low_{bit}")
        high = Signal(BEAT_BITS // 2, name=f"high_{bit}")
        cross = Signal(name=f"cross_{bit}")
        kept = Signal(BEAT_BITS // 2, name=f"kept_{bit}")
        passed = Signal(BEAT_BITS // 2, name=f"passed_{bit}")
        waiting = _delayed(m, high, delay, shift, reset_less=True)
        late = _delayed(m, kept, delay, shift, reset_less=True)
        m.d.comb += [
            low.eq(Cat(*(x for lane, x in enumerate(lanes) if not lane >> bit & 1))),
            high.eq(Cat(*(x for lane, x in enumerate(lanes) if lane >> bit & 1))),
            cross.eq(state.tile & state.row[bit]),
            kept.eq(Mux(cross, waiting, low)),
            passed.eq(Mux(cross, low, waiting)),
        ]
        halves = [late, passed]
        places = [0, 0]
        merged = []
        for lane in range(self._lanes):
            side = lane >> bit & 1
            merged.append(halves[side][places[side] : places[side] + size])
            places[side] += size
        exchanged = Signal(BEAT_BITS, name=f"row_data_{bit}")
        next_state = Signal(state.shape(), name=f"state_{bit}")
        m.d.comb += [
            exchanged.eq(Cat(*merged)),
            next_state.eq(_delayed(m, state.as_value(), delay, shift)),
        ]
        return exchanged, next_state


def _bytes(beat: Value) -> list[Value]:
    return [beat[8 * i : 8 * i + 8] for i in range(BEAT_BYTES)]


def _delayed(
    m: Module, value: Value, count: int, shift: Signal, *, reset_less: bool = False
) -> Value:
    """``value`` as it was ``count`` shifts ago."""
    for _ in range(count):
        register = Signal(value.shape(), reset_less=reset_less)
        with m.If(shift):
            m.d.sync += register.eq(value)
        value = register
    return value
