// Plays a file of items into a valid/ready stream.
//
// The file holds one hexadecimal item per line. Once `valid` is high, `valid` and `payload` stay as
// they are until `ready`: the stream rule. While `valid` is low the payload is random, so a design
// that looks at it without looking at `valid` is found out. Reset starts again from the first item.
//
// Plusargs, NAME being the parameter:
//   +NAME_file=PATH    the items; not needed when there are none
//   +NAME_items=N      how many items the file holds (default 0)
//   +NAME_stall=S      the stream is not valid in a cycle with probability S/256, S in 0..255
//   +seed=N            seed of the stalls; each NAME derives a sequence of its own
module stream_player #(
    parameter int unsigned WIDTH = 8,
    parameter string       NAME  = "stream",
    parameter int unsigned SALT  = 0
) (
    input  logic             clk,
    input  logic             rst,
    input  logic             no_stalls,  // the probability counts as 0 while this is high
    output logic             valid,
    output logic [WIDTH-1:0] payload,
    input  logic             ready,
    output logic [31:0]      accepted,   // items taken since the last reset
    output logic             done        // every item was taken
);
    localparam int unsigned WORDS = (WIDTH + 31) / 32;

    string             path;
    int                file;
    int unsigned       items, stall, seed, presented;
    logic [31:0]       random;
    logic [WIDTH-1:0]  item;

    function automatic logic [31:0] next_random(input logic [31:0] state);
        next_random = state ^ (state << 13);
        next_random = next_random ^ (next_random >> 17);
        next_random = next_random ^ (next_random << 5);
    endfunction

    initial begin
        items = 0;
        stall = 0;
        seed  = 1;
        file  = 0;
        presented = 0;
        void'($value$plusargs({NAME, "_items=%d"}, items));
        void'($value$plusargs({NAME, "_stall=%d"}, stall));
        void'($value$plusargs("seed=%d", seed));
        // A zero state would stay zero for ever, hence the lowest bit.
        random = ((seed * 32'h9E3779B9) ^ SALT) | 32'h1;
        if ($value$plusargs({NAME, "_file=%s"}, path)) begin
            file = $fopen(path, "r");
            if (file == 0) $fatal(1, "stream player %s: cannot read %s", NAME, path);
        end else if (items != 0) begin
            $fatal(1, "stream player %s: +%s_items without +%s_file", NAME, NAME, NAME);
        end
        valid    = 1'b0;
        payload  = '0;
        accepted = '0;
    end

    assign done = !rst && accepted == items;

    always_ff @(posedge clk) begin
        random = next_random(random);
        if (rst) begin
            if (file != 0) void'($rewind(file));
            presented = 0;
            valid    <= 1'b0;
            accepted <= '0;
        end else begin
            if (valid && ready) accepted <= accepted + 1;
            if (!valid || ready) begin
                if (presented < items && (no_stalls || {24'd0, random[23:16]} >= stall)) begin
                    if ($fscanf(file, "%h\n", item) != 1)
                        $fatal(1, "stream player %s: item %0d of %0d is missing", NAME, presented, items);
                    presented = presented + 1;
                    valid   <= 1'b1;
                    payload <= item;
                end else begin
                    valid   <= 1'b0;
                    payload <= WIDTH'({WORDS{random}});
                end
            end
        end
    end
endmodule
