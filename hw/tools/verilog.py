"""Standalone Verilog of a component, with a JSON sidecar and a register map."""

import json
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, Protocol

from amaranth.back import verilog
from amaranth.hdl import Shape, Signal, Value
from amaranth.lib import data, wiring

from hw.config import FORMAT_VERSION, AttentionConfig
from hw.formats import Mode, Status
from hw.memory.kv_mmu.formats import CommandStatus, Opcode
from hw.tools import GENERATOR, VERSION
from hw.tools.lint import CORE_RULES, PACKAGE_RULES, SYSTEM_RULES, WRAPPER_RULES, waivers
from hw.tools.package import package, record_sizes
from hw.tools.ports import find_streams
from hw.tools.settled import check_settled
from hw.tools.sharing import SharingPlatform, convert_all
from hw.tools.sram import WRAPPERS, SramPlatform, find_instances

#: What Yosys adds to a module so that its ``always @*`` blocks run at time zero.
_TIME_ZERO = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")
#: The initial value of a memory, word by word, when all of it is zero.
_ZERO_MEMORY = re.compile(
    r"^  initial begin\n    (?P<name>\S+)\[0\] = (?P<zero>\d+'h0+);\n"
    r"(?:    (?P=name)\[\d+\] = (?P=zero);\n)*  end\n",
    re.M,
)


class Core(Protocol):
    """What can be emitted: a component that lists the registers of its counter bank."""

    @property
    def config(self) -> AttentionConfig:
        """Its configuration."""

    @property
    def counters(self) -> list[dict[str, object]]:
        """Its registers, as `hw.counters.CounterBank.describe` gives them."""

    @property
    def signature(self) -> wiring.Signature:
        """Its ports."""


def emit(
    core: Core,
    name: str,
    *,
    sram_bits: int | None = None,
    system: Mapping[str, object] | None = None,
) -> dict[str, str]:
    """Return the text of every file of ``core``, by file name; ``name`` is the top module's.

    The same configuration and versions give the same text, byte for byte.

    Parameters
    ----------
    sram_bits
        If given, memories with more bits are instances of the modules of a further file, and the
        sidecar lists them.
    system
        Of an accelerator: the parameters that its cores do not have.
    """
    sidecar = describe(core, name)
    if system is not None:
        sidecar["system"] = dict(system)
        sidecar["opcode"] = {opcode.name: opcode.value for opcode in Opcode}
        sidecar["command_status"] = {status.name: status.value for status in CommandStatus}
    verilog_text = _tidy(_convert(core, name, sram_bits), name)
    rules = {
        f"{name}.v": CORE_RULES if system is None else SYSTEM_RULES,
        f"{name}_pkg.sv": PACKAGE_RULES,
    }
    files = {}
    if sram_bits is not None:
        sidecar["memories"] = find_instances(verilog_text)
        files[WRAPPERS.name] = WRAPPERS.read_text()
        rules[WRAPPERS.name] = WRAPPER_RULES
    return files | {
        f"{name}.v": _header(core.config, name, system or {}) + verilog_text,
        f"{name}_pkg.sv": package(
            core.config, find_streams(core.signature), core.counters, f"{name}_pkg", system
        ),
        f"{name}.vlt": waivers(rules),
        f"{name}.json": json.dumps(sidecar, indent=2) + "\n",
        "register_map.md": _register_map(core, name),
    }


def describe(core: Core, name: str) -> dict[str, Any]:
    """Return what software and a bench need to know of ``core``: the JSON sidecar."""
    config = core.config
    return {
        "generator": {"name": GENERATOR, "version": VERSION},
        "module": name,
        "config": config.describe(),
        "config_hash": _hash(config),
        "format_version": FORMAT_VERSION,
        "ports": [
            {"name": "clk", "direction": "input", "width": 1},
            {"name": "rst", "direction": "input", "width": 1},
            *_ports(core.signature, core),
        ],
        "streams": {
            stream.name: {
                "direction": stream.direction,
                "fields": list(_fields(stream.shape)),
            }
            for stream in find_streams(core.signature)
        },
        "records": record_sizes(config),
        "registers": core.counters,
        "mode": {mode.name: mode.value for mode in Mode},
        "status": {status.name: status.value for status in Status},
    }


def _hash(config: AttentionConfig) -> str:
    return f"0x{config.config_hash:08x}"


def _convert(core: Core, name: str, sram_bits: int | None) -> str:
    platform = SharingPlatform() if sram_bits is None else SramPlatform(sram_bits)

    def convert(part: object, module: str) -> str:
        text = verilog.convert(
            part, name=module, platform=platform, emit_src=False, strip_internal_attrs=True
        )
        assert isinstance(text, str)
        check_settled(text)
        return text.partition("*/\n")[2]

    return "\n".join(convert_all(core, name, platform, convert).values())


def _header(config: AttentionConfig, name: str, system: Mapping[str, object]) -> str:
    described = config.describe() | dict(system)
    parameters = (f"//   {key:<18} {value}" for key, value in described.items())
    return "\n".join(
        (
            f"// {name}: attention over a compressed KV cache",
            f"// Generated by {GENERATOR} {VERSION}, Amaranth {version('amaranth')}; do not edit.",
            "//",
            f"// Config hash {_hash(config)}, format version {FORMAT_VERSION}. Parameters:",
            *parameters,
            "//",
            "// One clock; rst is synchronous, active high. A stream moves an item in a cycle with",
            "// valid and ready high. The JSON file beside this one lists fields and registers.",
            "",
        )
    )


def _tidy(text: str, name: str) -> str:
    """Give modules plain identifiers, name the time-zero helper, and fold zeroed memories."""
    names = re.findall(r"^module (\S+) ?\(", text, re.M)
    plain = {old: re.sub(r"\W+", "_", old.removeprefix("\\")) for old in names}
    if len(set(plain.values())) != len(plain):
        raise ValueError(f"modules of {name} have the same name once dots are underscores")
    text = re.sub(
        r"^(module |  )(\\[^\s(]+) (?=[\s(\\\w])",
        lambda m: f"{m[1]}{plain[m[2]]} " if m[2] in plain else m[0],
        text,
        flags=re.M,
    )
    text = _TIME_ZERO.sub("at_time_zero ", text)
    return _ZERO_MEMORY.sub(_fold, text)


def _fold(match: re.Match[str]) -> str:
    words, name = match[0].count("\n") - 2, match["name"]
    return (
        f"  initial begin : zero_{re.sub(r'[^A-Za-z0-9_]', '_', name)}\n"
        f"    integer i;\n"
        f"    for (i = 0; i < {words}; i = i + 1) {name}[i] = {match['zero']};\n"
        f"  end\n"
    )


def _ports(signature: wiring.Signature, core: Core) -> Iterator[dict[str, object]]:
    for path, member, value in signature.flatten(core):
        plain = Value.cast(value)
        if isinstance(plain, Signal) and len(plain):
            yield {
                "name": "__".join(map(str, path)),
                "direction": "input" if member.flow == wiring.In else "output",
                "width": len(plain),
            }


def _fields(shape: Any, name: str = "", offset: int = 0) -> Iterator[dict[str, object]]:
    """Every leaf of a payload: name, bit offset, bits, signedness."""
    if isinstance(shape, data.Layout):
        for key, field in shape:
            inner = f"[{key}]" if isinstance(key, int) else f".{key}" if name else key
            yield from _fields(field.shape, name + inner, offset + field.offset)
    else:
        plain = Shape.cast(shape)
        yield {"name": name, "offset": offset, "width": plain.width, "signed": plain.signed}


def _register_map(core: Core, name: str) -> str:
    lines = [
        f"# Registers of `{name}`",
        "",
        f"Configuration `{core.config.name}`, hash `{_hash(core.config)}`. The data come one cycle",
        "after the address. Counters start at 0, stop at their largest value, and are zeroed by",
        "reset and by the clear input.",
        "",
        "| address | owner | name | bits | unit | counts |",
        "|---|---|---|---|---|---|",
    ]
    for row in core.counters:
        fields = (row[key] for key in ("address", "owner", "name", "width", "unit", "description"))
        lines.append("| " + " | ".join(map(str, fields)) + " |")
    return "\n".join([*lines, ""])
