"""Which layer's cache the jobs of a layer use."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.memory.kv_mmu.config import MmuConfig
from hw.memory.kv_mmu.ports import layer_change


class LayerMap(wiring.Component):
    """Latency 1 cycle, one layer per cycle. After a reset every layer has its own cache.

    Parameters
    ----------
    config

    Members
    -------
    layer : In
        A layer below ``layers``; it stays until its cache was read.
    kv_layer : Out
        The layer of its cache.
    change : In
        Of the host; it holds for a layer that is given in the next cycle.
    """

    def __init__(self, config: MmuConfig) -> None:
        self._config = config
        super().__init__(
            {
                "layer": In(config.layer_bits),
                "kv_layer": Out(config.layer_bits),
                "change": In(layer_change(config)),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        layers = self._config.attention.layers
        # The map is the identity where nothing was written.
        m.submodules.layers = words = Memory(shape=self._config.layer_bits, depth=layers, init=[])
        mapped = Signal(layers)
        read, write = words.read_port(transparent_for=()), words.write_port()
        m.d.comb += [
            read.addr.eq(self.layer),
            write.en.eq(self.change.enable),
            write.addr.eq(self.change.layer),
            write.data.eq(self.change.kv_layer),
            self.kv_layer.eq(Mux(mapped.bit_select(self.layer, 1), read.data, self.layer)),
        ]
        with m.If(self.change.enable):
            m.d.sync += mapped.bit_select(self.change.layer, 1).eq(1)
        return m
