"""``python -m hw.tools``: emit Verilog, measure area."""

import json
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import IO, Any

import click
from amaranth.hdl import UnusedElaboratable
from rich.console import Console
from rich.table import Table

from hw.accelerator import Accelerator
from hw.accelerator_config import (
    AXI4,
    DEFAULT_STANDARD,
    MMU_FIELDS,
    AcceleratorConfig,
    choose_system,
)
from hw.config import AttentionConfig, ConfigError
from hw.config_file import DEFAULT_PRESET, choose_config
from hw.cores.attention_core import AttentionCore
from hw.cores.decode_core import DecodeCore
from hw.memory.dram import StandardError
from hw.memory.kv_mmu.config import MmuConfig
from hw.tools.area import KEPT_BITS, AreaError, AreaReport, measure
from hw.tools.progress import step
from hw.tools.quote import (
    GUIDE,
    QuoteError,
    kept_reports,
    quote,
    read_report,
    result_of,
    timing_table,
)
from hw.tools.verilog import Core, emit

TOP = "attention_core"
SYSTEM = "accelerator"
#: Tops that are one core.
CORES: dict[str, Callable[[AttentionConfig], Core]] = {
    TOP: AttentionCore,
    "decode_core": DecodeCore,
}


class Refused(click.ClickException):
    """A request that cannot be met: one line on stderr, exit status 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message alone, without the usage."""
        click.echo(f"error: {self.format_message()}", file=file, err=file is None)


def _configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the options of a configuration, and the configuration in their place."""

    @click.option("--preset", metavar="NAME", help=f"Named configuration, else {DEFAULT_PRESET}.")
    @click.option(
        "--config", "config_file", type=click.Path(path_type=Path), help="Configuration in TOML."
    )
    @wraps(command)
    def chosen(preset: str | None, config_file: Path | None, **others: Any) -> None:
        try:
            config = choose_config(preset, config_file)
        except ConfigError as error:
            raise Refused(str(error)) from error
        command(config=config, **others)

    return chosen


def _of_the_system(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command`` the options of an accelerator; those that are given come as ``system``."""
    numbers = ("slices", "axi_id_bits", *MMU_FIELDS)

    @wraps(command)
    def chosen(**options: Any) -> None:
        system = {name: options.pop(name) for name in ("memory", "refresh", *numbers)}
        command(system={n: v for n, v in system.items() if v is not None}, **options)

    for name in reversed(numbers):
        owner = MmuConfig if name in MMU_FIELDS else AcceleratorConfig
        about = f"Of an accelerator: field of {owner.__name__}."
        kind: dict[str, Any] = (
            {"is_flag": True, "default": None} if name == "writes" else {"type": int}
        )
        chosen = click.option(f"--{name.replace('_', '-')}", help=about, **kind)(chosen)
    chosen = click.option("--refresh", metavar="KIND", help="per_bank or all_bank.")(chosen)
    memory = f"DRAM standard, else {DEFAULT_STANDARD}, or {AXI4} for AXI4 masters."
    return click.option("--memory", metavar="NAME", help=memory)(chosen)


def _output(default: str) -> Callable[[Any], Any]:
    return click.option(
        "--output",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(default),
        show_default=True,
        help="Where the results go.",
    )


@click.group()
def main() -> None:
    """Tools of the generator."""
    # A component that only lends its signature is never elaborated.
    warnings.simplefilter("ignore", UnusedElaboratable)


@main.command("verilog")
@_configured
@_output("build/verilog")
@click.option("--sram", is_flag=True, help="Instantiate large memories as wrapper modules.")
@click.option(
    "--sram-bits",
    type=click.IntRange(min=0),
    default=KEPT_BITS,
    show_default=True,
    help="Memories with more bits are large.",
)
@click.option(
    "--top",
    type=click.Choice([*CORES, SYSTEM]),
    default=TOP,
    show_default=True,
    help="A core that reads its caches, or one that writes them, too; or slices with MMU behind a "
    "distributor and in front of their memory.",
)
@_of_the_system
def verilog_command(
    config: AttentionConfig,
    output: Path,
    sram: bool,
    sram_bits: int,
    top: str,
    system: dict[str, Any],
) -> None:
    """Write Verilog, SystemVerilog package, JSON sidecar and register map to OUTPUT/<name>.

    With --sram they go to OUTPUT/<name>-sram, with the file of the wrappers. Other tops have their
    name in front, an accelerator also memory and slices behind.
    """
    console = Console()
    folder, described = _folder(config, top), None
    component: Core
    try:
        if top == SYSTEM:
            chosen = choose_system(config, **system)
            folder = f"{SYSTEM}-{config.name}-{chosen.standard}-{chosen.slices}"
            folder += "-writes" if chosen.mmu.writes else ""
            config, described = chosen.mmu.attention, chosen.describe()
            component = Accelerator(chosen)
        elif system:
            raise ConfigError(f"{next(iter(system))} goes with --top {SYSTEM} only")
        else:
            component = CORES[top](config)
    except (ConfigError, StandardError) as error:
        raise Refused(str(error)) from error
    with step(f"elaborating {top} ({config.name})"):
        files = emit(
            component,
            top,
            sram_bits=sram_bits if sram else None,
            system=described,
        )
    directory = output / (f"{folder}-sram" if sram else folder)
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text)
        console.print(f"{directory / name}  {text.count(chr(10))} lines", highlight=False)
    console.print(f"config hash 0x{config.config_hash:08x}", highlight=False)


@main.command("area")
@_configured
@_output("build/area")
@click.option(
    "--liberty",
    type=click.Path(path_type=Path),
    help="Cell library; without it the unit is the two-input NAND gate.",
)
@click.option("--top", type=click.Choice(list(CORES)), default=TOP, show_default=True)
def area_command(config: AttentionConfig, output: Path, liberty: Path | None, top: str) -> None:
    """Synthesise every module; print areas and write OUTPUT/<name>.json."""
    console = Console()
    name = _folder(config, top)
    try:
        with step(f"synthesising {top} ({config.name}), some minutes"):
            report = measure(CORES[top](config), top, output / "work" / name, liberty=liberty)
    except AreaError as error:
        raise Refused(str(error)) from error
    facts = {
        "preset": config.name,
        "config_hash": f"0x{config.config_hash:08x}",
        "liberty": liberty.name if liberty else None,
        **report.as_json(),
    }
    result = output / f"{name}.json"
    result.write_text(json.dumps(facts, indent=2) + "\n")
    console.print(_table(report))
    for line in _totals(report):
        console.print(line, highlight=False)
    console.print(str(result), highlight=False)


@main.command("quote")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
def quote_command(reports: tuple[Path, ...]) -> None:
    """Keep the area REPORTS in results/ and quote them in docs/integration.md."""
    try:
        for path in reports:
            result_of(read_report(path)["preset"]).write_text(path.read_text())
        GUIDE.write_text(quote(GUIDE.read_text(), timing_table(kept_reports())))
    except QuoteError as error:
        raise Refused(str(error)) from error
    click.echo(f"{GUIDE} quotes {len(kept_reports())} reports")


def _folder(config: AttentionConfig, top: str) -> str:
    """What the files of a core are kept under."""
    return config.name if top == TOP else f"{top}-{config.name}"


def _scaled(report: AreaReport, area: float) -> str:
    return f"{area / 1000:.2f}" if report.unit == "GE" else f"{area:.0f}"


def _unit(report: AreaReport) -> str:
    return "kGE" if report.unit == "GE" else report.unit


def _table(report: AreaReport) -> Table:
    """One row per module, without what its submodules hold."""
    table = Table(title=f"Area per module, without its submodules ({_unit(report)})")
    table.add_column("module", no_wrap=True)
    for column in (
        "combi-\nnational",
        "flip-\nflops",
        "levels",
        "ps" if report.unit == "um2" else "",
        "memory",
    ):
        if column:
            table.add_column(column, justify="right")
    for module in sorted(report.modules, key=lambda module: module.name):
        uses = f" ({module.instances} times)" if module.instances > 1 else ""
        delay = [] if report.unit == "GE" else [f"{module.delay_ps or 0:.0f}"]
        table.add_row(
            module.name.removeprefix(f"{TOP}.") + uses,
            _scaled(report, module.combinational),
            _scaled(report, module.flip_flops),
            str(module.levels),
            *delay,
            "\n".join(f"{m.words} x {m.width}" for m in module.memories),
        )
    return table


def _totals(report: AreaReport) -> list[str]:
    unit, combinational, flip_flops = (
        _unit(report),
        _scaled(report, report.combinational),
        _scaled(report, report.flip_flops),
    )
    lines = [
        f"logic          {_scaled(report, report.logic)} {unit} "
        f"(combinational {combinational}, flip-flops {flip_flops})",
        f"longest path   {report.levels} levels",
        f"memories       {report.memory_bits} bits",
    ]
    if report.memory_area is not None:
        lines[-1] += f", modelled as {_scaled(report, report.memory_area)} {unit}"
        total = report.logic + report.memory_area
        lines.append(f"with memories  {_scaled(report, total)} {unit} (memories modelled)")
    return lines


if __name__ == "__main__":
    main(prog_name="python -m hw.tools")
