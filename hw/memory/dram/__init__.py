"""DRAM standards as data, their command set, the address map and the DRAM port (docs/dram.md)."""

from hw.memory.dram.address_map import AddressMap, Location
from hw.memory.dram.commands import FAMILIES, Command, Family
from hw.memory.dram.energy import DramEnergy, dram_energy, load_energy, parse_energy
from hw.memory.dram.loader import load_standard, parse_standard, standard_names
from hw.memory.dram.standard import DramStandard, StandardError

__all__ = [
    "FAMILIES",
    "AddressMap",
    "Command",
    "DramEnergy",
    "DramStandard",
    "Family",
    "Location",
    "StandardError",
    "dram_energy",
    "load_energy",
    "load_standard",
    "parse_energy",
    "parse_standard",
    "standard_names",
]
