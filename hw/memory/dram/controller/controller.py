"""The DRAM controller: channel ports in, the DRAM port out."""

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.config import BEAT_BITS, BEAT_BYTES
from hw.memory.channel_port import channel_port
from hw.memory.dram.controller.command_bus import CommandBus
from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.controller.pseudo_channel import PseudoChannel
from hw.memory.dram.port import dram_port


class DramController(wiring.Component):
    """Moves 16 bytes per DRAM clock and pseudo-channel; schedules out of order over the banks.

    At gear 1 the first word of a read that finds its row open and nothing in its way comes tCL + 5
    clocks after its request, a clock later if a CAS has to start the data clock.

    Parameters
    ----------
    config : ControllerConfig

    Members
    -------
    channel : In(channel_port), an array over the pseudo-channels
        docs/memory.md, section 1.
    dram : Out(dram_port)
        docs/dram.md, section 3.
    refresh_debt : Out, an array over the pseudo-channels
        Refreshes owed, of all sets together.
    """

    def __init__(self, config: ControllerConfig) -> None:
        self._config = config
        channels = config.standard.pseudo_channels
        self._channels = [PseudoChannel(config, i) for i in range(channels)]
        debt = self._channels[0].refresh_debt.shape()
        super().__init__(
            {
                "channel": In(channel_port(config.id_bits, config.gear)).array(channels),
                "dram": Out(dram_port(config.standard, config.gear)),
                "refresh_debt": Out(debt).array(channels),
            }
        )

    @property
    def config(self) -> ControllerConfig:
        """The configuration it was built for."""
        return self._config

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        gear = self._config.gear
        m.submodules.bus = bus = CommandBus(self._config)
        m.d.comb += self.dram.command.eq(bus.command)
        for i, channel in enumerate(self._channels):
            m.submodules[f"pseudo_channel_{i}"] = channel
            connect(m, flipped(self.channel[i]), channel.channel)
            m.d.comb += [
                bus.rows[i].eq(channel.row),
                channel.row_grant.eq(bus.row_grants[i]),
                bus.columns[i].eq(channel.column_command),
                bus.announcements[i].eq(channel.announcement),
                bus.bursts[i].eq(channel.burst),
                channel.column_grant.eq(bus.column_grants[i]),
                self.refresh_debt[i].eq(channel.refresh_debt),
            ]
            for phase in range(gear):
                word = i * gear + phase
                bits = slice(phase * BEAT_BITS, (phase + 1) * BEAT_BITS)
                bytes_ = slice(phase * BEAT_BYTES, (phase + 1) * BEAT_BYTES)
                m.d.comb += [
                    channel.read_data[bits].eq(self.dram.read_data[word]),
                    channel.read_valid[phase].eq(self.dram.read_valid[word]),
                    self.dram.write_data[word].eq(channel.write_data[bits]),
                    self.dram.write_mask[word].eq(channel.write_mask[bytes_]),
                ]
        return m
