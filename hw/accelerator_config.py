"""Parameters of an accelerator: its slices, and what stands behind their channels."""

from dataclasses import dataclass, fields, replace
from typing import Any

from hw.config import AttentionConfig, ConfigError
from hw.memory.dram import load_standard, standard_names
from hw.memory.dram.controller import ControllerConfig
from hw.memory.kv_mmu.config import MmuConfig
from hw.placement import SLICES

#: What ``standard`` is for AXI4 masters in the place of DRAM controllers.
AXI4 = "axi4"
#: The DRAM standard unless another memory is asked for.
DEFAULT_STANDARD = "hbm2-2000"
#: Bits of the IDs on the bus unless others are asked for.
_AXI_ID_BITS = 4
#: Of the controllers of cores that write: an import writes nearly as much as it reads, so that it
#: is worth turning the bus less often.
_LONG_BATCHES = {"write_buffer": 128, "write_batch": 64}
#: The fields of `MmuConfig` that a core does not have.
MMU_FIELDS = tuple(field.name for field in fields(MmuConfig) if field.name != "attention")


def system_core(config: AttentionConfig) -> AttentionConfig:
    """The configuration of a core behind an MMU: its addresses are virtual and have 32 bits."""
    return replace(config, memory_bytes=1 << 32)


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """Parameters of an accelerator.

    Raises
    ------
    ConfigError, StandardError
        A field has an illegal value, or belongs to the other back end.
    """

    #: The MMU of each slice, and with it the core.
    mmu: MmuConfig
    #: Slices, each a core and a channel: 1, 2 or 4.
    slices: int = 1
    #: Name of the DRAM standard, or ``axi4``: each channel then leaves as an AXI4 master.
    standard: str = DEFAULT_STANDARD
    #: ``per_bank``, ``all_bank``, or None for the first that the standard has; None with ``axi4``.
    refresh: str | None = None
    #: Bits of the IDs of each master, 1 to 8, or None for 4; None with a DRAM standard.
    axi_id_bits: int | None = None

    def __post_init__(self) -> None:
        if self.slices not in SLICES or isinstance(self.slices, bool):
            raise ConfigError(f"slices must be one of {SLICES}, not {self.slices!r}")
        if self.has_axi:
            if self.refresh is not None:
                raise ConfigError(f"refresh must be None with {AXI4}, not {self.refresh!r}")
            bits = self.master_id_bits
            if not isinstance(bits, int) or isinstance(bits, bool) or not 1 <= bits <= 8:
                raise ConfigError(f"axi_id_bits must be 1 to 8 or None, not {bits!r}")
            return
        if self.standard not in standard_names():
            legal = ", ".join([*standard_names(), AXI4])
            raise ConfigError(f"standard must be one of {legal}, not {self.standard!r}")
        standard = self.controller(1).standard
        if self.axi_id_bits is not None:
            raise ConfigError(
                f"axi_id_bits must be None with {standard.name}, not {self.axi_id_bits!r}"
            )
        if self.mmu.channel_bytes > standard.bytes:
            raise ConfigError(
                f"channel_bytes must be at most the {standard.bytes} bytes of a channel of "
                f"{standard.name}, not {self.mmu.channel_bytes}"
            )

    @property
    def has_axi(self) -> bool:
        """Whether AXI4 masters, and no DRAM controllers, are behind the slices."""
        return self.standard == AXI4

    @property
    def master_id_bits(self) -> int:
        """Bits of the IDs of each AXI4 master."""
        return _AXI_ID_BITS if self.axi_id_bits is None else self.axi_id_bits

    def controller(self, id_bits: int) -> ControllerConfig:
        """The configuration of each DRAM controller."""
        batches = _LONG_BATCHES if self.mmu.writes else {}
        return ControllerConfig(
            standard=load_standard(self.standard), refresh=self.refresh, id_bits=id_bits, **batches
        )

    @property
    def channels_per_controller(self) -> int:
        """Channels behind one controller: the pseudo-channels of the standard."""
        return load_standard(self.standard).pseudo_channels

    @property
    def controllers(self) -> int:
        """DRAM controllers, each with a port of its own; none with ``axi4``."""
        return 0 if self.has_axi else -(-self.slices // self.channels_per_controller)

    def describe(self) -> dict[str, object]:
        """Every parameter that the cores do not have, by name, with the values that were chosen."""
        mmu = {name: getattr(self.mmu, name) for name in MMU_FIELDS}
        described = {"slices": self.slices, "standard": self.standard, **mmu}
        described["page_address"] = self.mmu.first_page
        if self.mmu.has_slot_area:
            area = self.mmu.slot_area
            described |= {"slot_address": area.address, "slot_stride": area.stride}
        if self.has_axi:
            return described | {"axi_id_bits": self.master_id_bits}
        per_bank = self.controller(1).per_bank_refresh
        return described | {"refresh": "per_bank" if per_bank else "all_bank"}


def choose_system(
    config: AttentionConfig,
    *,
    memory: str = DEFAULT_STANDARD,
    slices: int = 1,
    refresh: str | None = None,
    axi_id_bits: int | None = None,
    **mmu: Any,
) -> AcceleratorConfig:
    """The accelerator that a command line asks for.

    Parameters
    ----------
    config
        Of its cores; ``memory_bytes`` does not matter.
    memory
        What ``standard`` of `AcceleratorConfig` is.
    slices, refresh, axi_id_bits
        As there.
    mmu
        Fields of `MmuConfig`; ``channel_bytes`` is the channel's size unless given.

    Raises
    ------
    ConfigError, StandardError
        A value is illegal.
    """
    if "channel_bytes" not in mmu and memory in standard_names():
        mmu["channel_bytes"] = min(1 << 32, load_standard(memory).bytes)
    return AcceleratorConfig(
        mmu=MmuConfig(attention=system_core(config), **mmu),
        slices=slices,
        standard=memory,
        refresh=refresh,
        axi_id_bits=axi_id_bits,
    )
