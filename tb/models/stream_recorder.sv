// Records the items of a valid/ready stream into a file and checks the stream rule.
//
// The rule: once `valid` is high, `valid` and `payload` stay as they are until `ready`. The first
// breach is kept in `broken`. Reset empties the file and forgets the counts, not the breach.
//
// Plusargs, NAME being the parameter:
//   +NAME_file=PATH    receives one hexadecimal item per line
//   +NAME_items=N      `done` rises with the Nth item (default 0); later items are recorded too
//   +NAME_stall=S      the stream is not ready in a cycle with probability S/256, S in 0..255
//   +seed=N            seed of the stalls; each NAME derives a sequence of its own
module stream_recorder #(
    parameter int unsigned WIDTH = 8,
    parameter string       NAME  = "stream",
    parameter int unsigned SALT  = 0,
    parameter bit          ALWAYS_READY = 1'b0  // for a stream declared so: never stalls
) (
    input  logic             clk,
    input  logic             rst,
    input  logic             no_stalls,  // the probability counts as 0 while this is high
    input  logic [31:0]      cycle,      // cycles since the last reset
    input  logic             valid,
    input  logic [WIDTH-1:0] payload,
    output logic             ready,
    output logic [31:0]      count,      // items since the last reset
    output logic [31:0]      first,      // cycle of the first item, all ones before it
    output logic [1:0]       broken,     // 0 kept, 1 `valid` was withdrawn, 2 the payload changed
    output logic [31:0]      broken_at,  // cycle in which the rule was first broken
    output logic             done
);
    string            path;
    int               file;
    int unsigned      items, stall, seed;
    logic [31:0]      random;
    logic             empty, held, willing;
    logic [WIDTH-1:0] held_payload;

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
        void'($value$plusargs({NAME, "_items=%d"}, items));
        void'($value$plusargs({NAME, "_stall=%d"}, stall));
        void'($value$plusargs("seed=%d", seed));
        random = ((seed * 32'h9E3779B9) ^ SALT) | 32'h1;
        if (!$value$plusargs({NAME, "_file=%s"}, path))
            $fatal(1, "stream recorder %s: +%s_file is missing", NAME, NAME);
        file = $fopen(path, "w");
        if (file == 0) $fatal(1, "stream recorder %s: cannot write %s", NAME, path);
        empty     = 1'b1;
        willing   = 1'b0;
        held      = 1'b0;
        count     = '0;
        first     = '1;
        broken    = 2'd0;
        broken_at = '0;
    end

    assign ready = ALWAYS_READY || willing;
    assign done = !rst && count >= items;

    always_ff @(posedge clk) begin
        random = next_random(random);
        held_payload <= payload;
        if (rst) begin
            if (!empty) begin
                $fclose(file);
                file = $fopen(path, "w");
            end
            empty = 1'b1;
            willing <= 1'b0;
            held  <= 1'b0;
            count <= '0;
            first <= '1;
        end else begin
            willing <= no_stalls || {24'd0, random[23:16]} >= stall;
            held  <= valid && !ready;
            if (broken == 2'd0 && held && (!valid || payload != held_payload)) begin
                broken    <= valid ? 2'd2 : 2'd1;
                broken_at <= cycle;
            end
            if (valid && ready) begin
                $fwrite(file, "%h\n", payload);
                empty = 1'b0;
                count <= count + 1;
                if (count == 0) first <= cycle;
            end
        end
    end

    final $fclose(file);
endmodule
