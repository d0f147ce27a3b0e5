"""SystemVerilog around a design: a player per input stream, a recorder per output stream.

The wrapper paces the whole run by itself (reset, optional reset in flight, end, time limit), so the
Python side waits for one edge of ``done`` and never touches single cycles.
"""

from __future__ import annotations

import zlib

from tb.harness.elaborate import Design, StreamPort

SETTING_PREFIX = "set_"
"""Wrapper port of a plain input signal: this prefix and the signal's name."""

OBSERVED_PREFIX = "see_"
"""Wrapper port of a plain output signal: this prefix and the signal's name."""

STATUS_BITS = 32
"""Width of one stream's field in the status ports."""


def wrapper_name(design: Design) -> str:
    """Return the name of the wrapper module of ``design``."""
    return f"{design.name}_bench"


def wrapper_ports(design: Design) -> list[str]:
    """Return every port of the wrapper, the ones a bench makes visible to Python."""
    return [line.split()[-1] for line in _port_lines(design)]


def _port_lines(design: Design) -> list[str]:
    inputs = max(1, len(design.stream_names(is_input=True)))
    outputs = max(1, len(design.stream_names(is_input=False)))
    lines = [
        "input  logic clk",
        "output logic done",
        "output logic timed_out",
        "output logic [31:0] total_cycles",
        "output logic [31:0] busy_cycles",
        "output logic [31:0] resets",
        f"output logic [{32 * inputs - 1}:0] accepted",
        f"output logic [{32 * outputs - 1}:0] counts",
        f"output logic [{32 * outputs - 1}:0] firsts",
        f"output logic [{32 * outputs - 1}:0] broken",
        f"output logic [{32 * outputs - 1}:0] broken_at",
    ]
    for signal in design.signals:
        side, prefix = (
            ("input ", SETTING_PREFIX) if signal.is_input else ("output", OBSERVED_PREFIX)
        )
        lines.append(f"{side} logic [{signal.width - 1}:0] {prefix}{signal.name}")
    return lines


def _salt(stream: StreamPort) -> str:
    """Return a number of the stream's own that sets its random sequence apart from the others."""
    return f"32'd{zlib.crc32(stream.name.encode())}"


def _player(stream: StreamPort, index: int) -> str:
    low = index * STATUS_BITS
    return f"""
    logic {stream.name}__valid, {stream.name}__ready;
    logic [{stream.width - 1}:0] {stream.name}__payload;
    stream_player #(
        .WIDTH({stream.width}), .NAME("{stream.name}"), .SALT({_salt(stream)})
    ) player_{stream.name} (
        .clk(clk), .rst(rst), .no_stalls(finished), .valid({stream.name}__valid),
        .payload({stream.name}__payload), .ready({stream.name}__ready),
        .accepted(accepted[{low + 31}:{low}]), .done(input_done[{index}])
    );"""


def _recorder(stream: StreamPort, index: int) -> str:
    low = index * STATUS_BITS
    field = f"[{low + 31}:{low}]"
    return f"""
    logic {stream.name}__valid, {stream.name}__ready;
    logic [{stream.width - 1}:0] {stream.name}__payload;
    assign broken[{low + 31}:{low + 2}] = '0;
    stream_recorder #(
        .WIDTH({stream.width}), .NAME("{stream.name}"), .SALT({_salt(stream)}),
        .ALWAYS_READY(1'b{int(stream.always_ready)})
    ) recorder_{stream.name} (
        .clk(clk), .rst(rst), .no_stalls(finished), .cycle(cycle),
        .valid({stream.name}__valid), .payload({stream.name}__payload),
        .ready({stream.name}__ready),
        .count(counts{field}), .first(firsts{field}), .broken(broken[{low + 1}:{low}]),
        .broken_at(broken_at{field}), .done(output_done[{index}])
    );"""


def _connections(design: Design) -> list[str]:
    wires = ["clk", "rst"] if design.clocked else []
    lines = [f".{name}({name})" for name in wires]
    for stream in design.streams:
        for member in ("valid", "payload", "ready"):
            if member == "ready" and stream.always_ready:
                continue
            lines.append(f".{stream.name}__{member}({stream.name}__{member})")
    for signal in design.signals:
        prefix = SETTING_PREFIX if signal.is_input else OBSERVED_PREFIX
        lines.append(f".{signal.name}({prefix}{signal.name})")
    return lines


def wrapper_text(design: Design) -> str:
    """Return the SystemVerilog of the wrapper module of ``design``.

    Plusargs: ``max_cycles``, ``drain`` (cycles to listen on after the last expected item) and
    ``reset_at`` (cycle after the first reset; 0 for none), besides those of the stream models.
    """
    inputs = [stream for stream in design.streams if stream.is_input]
    outputs = [stream for stream in design.streams if not stream.is_input]
    parts = [_player(stream, index) for index, stream in enumerate(inputs)]
    parts += [_recorder(stream, index) for index, stream in enumerate(outputs)]
    parts += [
        f"\n    assign {stream.name}__ready = 1'b1;" for stream in inputs if stream.always_ready
    ]
    if not inputs:
        parts.append("\n    assign accepted = '0;\n    assign input_done = '1;")
    if not outputs:
        parts.append(
            "\n    assign {counts, firsts, broken, broken_at} = '0;\n    assign output_done = '1;"
        )
    ports = ",\n    ".join(_port_lines(design))
    return f"""// Test bench wrapper of {design.name}.
module {wrapper_name(design)} (
    {ports}
);
    localparam int unsigned RESET_CYCLES = 4;

    int unsigned max_cycles, drain, reset_at, drained;
    logic [31:0] cycle, hold;
    logic        rst, finished, complete;
    logic [{max(1, len(inputs)) - 1}:0] input_done;
    logic [{max(1, len(outputs)) - 1}:0] output_done;

    initial begin
        max_cycles = 1000;
        drain      = 0;
        reset_at   = 0;
        void'($value$plusargs("max_cycles=%d", max_cycles));
        void'($value$plusargs("drain=%d", drain));
        void'($value$plusargs("reset_at=%d", reset_at));
        rst          = 1'b1;
        hold         = RESET_CYCLES;
        cycle        = '0;
        resets       = '0;
        total_cycles = '0;
        busy_cycles  = '0;
        drained      = 0;
        finished     = 1'b0;
        done         = 1'b0;
        timed_out    = 1'b0;
    end

    assign complete = !rst && (&input_done) && (&output_done);

    always_ff @(posedge clk) begin
        total_cycles <= total_cycles + 1;
        cycle        <= rst ? '0 : cycle + 1;
        if (rst) begin
            hold <= hold - 1;
            if (hold == 1) begin
                rst    <= 1'b0;
                resets <= resets + 1;
            end
        end else if (reset_at != 0 && resets == 1 && cycle == reset_at && !finished) begin
            rst  <= 1'b1;
            hold <= RESET_CYCLES;
        end else if (complete || finished) begin
            if (!finished) busy_cycles <= cycle;
            finished <= 1'b1;
            drained  = drained + 1;
            if (drained > drain) done <= 1'b1;
        end
        if (total_cycles >= max_cycles && !done) begin
            timed_out <= !finished;
            done      <= 1'b1;
        end
    end
{"".join(parts)}

    {design.name} dut (
        {("," + chr(10) + "        ").join(_connections(design))}
    );
endmodule
"""
