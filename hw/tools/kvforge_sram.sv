// The memories of the core: one module for each kind of read port. Replace the bodies by the macros
// of your process, keep names, parameters and ports; docs/integration.md says what the core asks of
// them. As they stand they infer block RAM and distributed RAM.

// One write and one registered read port. The data of a read come one cycle later and stay until
// the next read. Contents and read data start unknown. A word that is written in the cycle in which
// it is read may come out with any value: the core never uses it.
module kvforge_sram_1r1w #(
    parameter int unsigned WIDTH = 8,  // bits of a word
    parameter int unsigned DEPTH = 2,  // words, at least 2
    parameter int unsigned PARTS = 1   // write enables of a word, each for WIDTH / PARTS bits
) (
    input  logic                     clk,
    input  logic [PARTS-1:0]         write_enable,
    input  logic [$clog2(DEPTH)-1:0] write_address,
    input  logic [WIDTH-1:0]         write_data,
    input  logic                     read_enable,
    input  logic [$clog2(DEPTH)-1:0] read_address,
    output logic [WIDTH-1:0]         read_data
);
    localparam int unsigned PART = WIDTH / PARTS;

    logic [WIDTH-1:0] words [DEPTH];

    always_ff @(posedge clk) begin
        for (int unsigned part = 0; part < PARTS; part++)
            if (write_enable[part])
                words[write_address][part*PART +: PART] <= write_data[part*PART +: PART];
        if (read_enable) read_data <= words[read_address];
    end
endmodule

// One write port and one combinational read port: registers, latches or distributed RAM. A read in
// the cycle of a write gives the old word.
module kvforge_regfile_1r1w #(
    parameter int unsigned WIDTH = 8,
    parameter int unsigned DEPTH = 2,
    parameter int unsigned PARTS = 1
) (
    input  logic                     clk,
    input  logic [PARTS-1:0]         write_enable,
    input  logic [$clog2(DEPTH)-1:0] write_address,
    input  logic [WIDTH-1:0]         write_data,
    input  logic [$clog2(DEPTH)-1:0] read_address,
    output logic [WIDTH-1:0]         read_data
);
    localparam int unsigned PART = WIDTH / PARTS;

    logic [WIDTH-1:0] words [DEPTH];

    always_ff @(posedge clk)
        for (int unsigned part = 0; part < PARTS; part++)
            if (write_enable[part])
                words[write_address][part*PART +: PART] <= write_data[part*PART +: PART];

    assign read_data = words[read_address];
endmodule
