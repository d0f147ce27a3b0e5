// Timing, state and refresh rules of one pseudo-channel, as earliest cycles that commands leave behind.
//
// Every command writes, per rule, bank, bank group or set, the cycle from which the rule lets the next
// command go; a command that comes earlier violates the rule. docs/dram.md has the rules in words. A
// command takes effect whether or not it violates a rule, so that all violations of a run are found.
//
// A violation goes into the file `trace` as "! time,pseudo-channel,rule", once per command and rule.
// With `stop` it ends the simulation. Plusargs +NAME_<timing parameter>=N replace a parameter.
module dram_rules
    import dram_package::*;
#(
    parameter string NAME = "dram",
    parameter int GEAR = 1,
    parameter int BUSES = 1,
    parameter int STACKS = 1,
    parameter int BANK_GROUPS = 4,
    parameter int BANKS_PER_GROUP = 4,
    parameter int BURST_CYCLES = 2,
    parameter int ACTIVATE_CYCLES = 1,
    parameter int ACTIVATE_REFERENCE = 0,
    parameter int BANKS_PER_REFRESH = 0,
    parameter int POSTPONED_REFRESHES = 8,
    parameter bit DATA_CLOCK = 1'b0,
    parameter logic [16*TIMINGS-1:0] TIMING = '0
) (
    input  logic        clk,
    input  logic        rst,
    input  int          pseudo_channel,
    input  int          now,  // DRAM clock of the first phase
    input  int          trace,
    input  bit          stop,
    input  command_e    command [GEAR*BUSES],  // NOP where the command is not for this pseudo-channel
    input  int          bank_group [GEAR*BUSES],
    input  int          bank [GEAR*BUSES],
    output logic [31:0] violations
); /*verilator no_inline_module*/
    localparam int BANKS = BANK_GROUPS * BANKS_PER_GROUP;
    localparam int SETS  = BANKS_PER_REFRESH == 0 ? 1 : BANKS / BANKS_PER_REFRESH;
    localparam int GROUPS_PER_STACK = BANK_GROUPS / STACKS;
    localparam int LONG_AGO = -(1 << 20);

    int t [TIMINGS];
    int write_to_precharge;
    bit [RULES-1:0] broken;  // by the command at hand

    // State of the banks, and the activation that waits for its second half.
    bit row_open [BANKS];
    bit half_open, half_late;
    int half_bank, half_time;

    // Cycles from which a rule lets a command go.
    int read_rcd [BANKS], write_rcd [BANKS];
    int precharge_ras [BANKS], precharge_rtp [BANKS], precharge_wr [BANKS], precharge_ppd;
    int activate_rp [BANKS], activate_rpab, activate_rc [BANKS];
    int activate_rrd_s [BANK_GROUPS], activate_rrd_l [BANK_GROUPS];
    int activate_faw [4], oldest;
    int read_ccd_s [BANK_GROUPS], read_ccd_l [BANK_GROUPS], read_ccd_r [BANK_GROUPS];
    int write_ccd_s [BANK_GROUPS], write_ccd_l [BANK_GROUPS], write_ccd_r [BANK_GROUPS];
    int read_wtr_s [BANK_GROUPS], read_wtr_l [BANK_GROUPS], write_rtw;
    int any_rfcab, any_rfcpb [BANKS], activate_pbr [BANKS], refresh_pbr [SETS], refresh_round;

    // The data clock: the last CAS, and the last cycle in which data can be asked for without one.
    int cas_time, running_until;
    command_e cas_command;
    bit cas_promised, cas_served;

    bit [SETS-1:0] refreshed;  // in this round
    int owed [SETS], until_due;
    bit due;

    // Functions become part of whatever calls them, so these only take a note; `report` tells.
    function automatic void violate(input rule_e rule);
        broken[rule] = 1'b1;
    endfunction

    function automatic void need(input int moment, input int from, input rule_e rule);
        if (moment < from) broken[rule] = 1'b1;
    endfunction

    function automatic void report(input int at);
        if (broken != '0) begin
            for (int i = 0; i < RULES; i++)
                if (broken[i]) begin
                    rule_e rule;
                    rule = rule_e'(i);
                    violations = violations + 1;
                    if (trace != 0) $fdisplay(trace, "! %0d,%0d,%s", at, pseudo_channel, rule.name());
                    if (stop)
                        $fatal(1, "%s: %s violated in cycle %0d of pseudo-channel %0d",
                               NAME, rule.name(), at, pseudo_channel);
                end
            broken = '0;
        end
    endfunction

    function automatic void forget();
        for (int b = 0; b < BANKS; b++) begin
            row_open[b] = 1'b0;
            read_rcd[b] = LONG_AGO;
            write_rcd[b] = LONG_AGO;
            precharge_ras[b] = LONG_AGO;
            precharge_rtp[b] = LONG_AGO;
            precharge_wr[b] = LONG_AGO;
            activate_rp[b] = LONG_AGO;
            activate_rc[b] = LONG_AGO;
            any_rfcpb[b] = LONG_AGO;
            activate_pbr[b] = LONG_AGO;
        end
        for (int g = 0; g < BANK_GROUPS; g++) begin
            activate_rrd_s[g] = LONG_AGO;
            activate_rrd_l[g] = LONG_AGO;
            read_ccd_s[g] = LONG_AGO;
            read_ccd_l[g] = LONG_AGO;
            read_ccd_r[g] = LONG_AGO;
            write_ccd_s[g] = LONG_AGO;
            write_ccd_l[g] = LONG_AGO;
            write_ccd_r[g] = LONG_AGO;
            read_wtr_s[g] = LONG_AGO;
            read_wtr_l[g] = LONG_AGO;
        end
        for (int s = 0; s < SETS; s++) begin
            refresh_pbr[s] = LONG_AGO;
            owed[s] = 0;
        end
        for (int i = 0; i < 4; i++) activate_faw[i] = LONG_AGO;
        oldest = 0;
        precharge_ppd = LONG_AGO;
        activate_rpab = LONG_AGO;
        write_rtw = LONG_AGO;
        any_rfcab = LONG_AGO;
        refresh_round = LONG_AGO;
        half_open = 1'b0;
        half_late = 1'b0;
        half_bank = 0;
        half_time = LONG_AGO;
        cas_time = LONG_AGO;
        cas_command = NOP;
        cas_promised = 1'b0;
        cas_served = 1'b0;
        running_until = LONG_AGO;
        refreshed = '0;
        until_due = t[tREFI];
        due = 1'b0;
        violations = '0;
        broken = '0;
    endfunction

    // What has to have happened before a row may be opened, up to the cycle that ACT is measured to.
    function automatic void begin_activate(input int at, input int b);
        int moment;
        moment = at + ACTIVATE_REFERENCE;
        if (row_open[b] || half_open && half_bank == b) violate(ROW_OPEN);
        need(moment, activate_rp[b], tRP);
        need(moment, activate_rpab, tRPab);
        need(moment, any_rfcab, tRFCab);
        need(moment, any_rfcpb[b], tRFCpb);
        need(moment, activate_pbr[b], tpbR2act);
    endfunction

    function automatic void check_window(input int moment, input int g);
        need(moment, activate_rrd_l[g], tRRD_L);
        need(moment, activate_rrd_s[g], tRRD_S);
        need(moment, activate_faw[oldest], tFAW);
    endfunction

    function automatic void enter_window(input int moment);
        activate_faw[oldest] = moment + t[tFAW];
        oldest = (oldest + 1) % 4;
    endfunction

    // The row opens in cycle `moment`.
    function automatic void activate(input int moment, input int g, input int b);
        need(moment, activate_rc[b], tRC);
        check_window(moment, g);
        enter_window(moment);
        for (int other = 0; other < BANK_GROUPS; other++)
            if (other == g) activate_rrd_l[other] = moment + t[tRRD_L];
            else activate_rrd_s[other] = moment + t[tRRD_S];
        row_open[b] = 1'b1;
        activate_rc[b] = moment + t[tRC];
        precharge_ras[b] = moment + t[tRAS];
        read_rcd[b] = moment + t[tRCDRD];
        write_rcd[b] = moment + t[tRCDWR];
    endfunction

    function automatic void close(input int b, input int moment);
        row_open[b] = 1'b0;
        activate_rp[b] = larger(activate_rp[b], moment + t[tRP]);
    endfunction

    function automatic void check_precharge(input int at, input int b);
        if (half_open && half_bank == b) violate(ACTIVATE_ORDER);
        if (row_open[b]) begin
            need(at, precharge_ras[b], tRAS);
            need(at, precharge_rtp[b], tRTP);
            need(at, precharge_wr[b], tWR);
        end
        need(at, any_rfcab, tRFCab);
        need(at, any_rfcpb[b], tRFCpb);
    endfunction

    function automatic void precharge(input int at, input int b);
        need(at, precharge_ppd, tPPD);
        check_precharge(at, b);
        close(b, at);
        precharge_ppd = at + t[tPPD];
    endfunction

    function automatic void precharge_all(input int at);
        need(at, precharge_ppd, tPPD);
        for (int b = 0; b < BANKS; b++) begin
            check_precharge(at, b);
            row_open[b] = 1'b0;
        end
        activate_rpab = at + t[tRPab];
        precharge_ppd = at + t[tPPD];
    endfunction

    function automatic void use_data_clock(input int at, input bit reading);
        cas_served = cas_promised && cas_command == (reading ? CAS_RD : CAS_WR);
        if (!cas_served && at > running_until) violate(WCK_OFF);
        running_until = larger(
            running_until, at + t[reading ? tCL : tCWL] + BURST_CYCLES + t[tWCKPST]
        );
    endfunction

    function automatic void read(input int at, input int g, input int b, input bit closing);
        need(at, read_ccd_l[g], tCCD_L);
        need(at, read_ccd_s[g], tCCD_S);
        need(at, read_ccd_r[g], tCCD_R);
        need(at, read_wtr_l[g], tWTR_L);
        need(at, read_wtr_s[g], tWTR_S);
        if (DATA_CLOCK) use_data_clock(at, 1'b1);
        for (int other = 0; other < BANK_GROUPS; other++)
            if (other == g) read_ccd_l[other] = at + t[tCCD_L];
            else if (other / GROUPS_PER_STACK == g / GROUPS_PER_STACK)
                read_ccd_s[other] = at + t[tCCD_S];
            else read_ccd_r[other] = at + t[tCCD_R];
        write_rtw = at + t[tRTW];
        precharge_rtp[b] = at + t[tRTP];
        if (!row_open[b]) violate(ROW_CLOSED);
        else begin
            need(at, read_rcd[b], tRCDRD);
            if (closing) begin
                need(at + t[tRTP], precharge_wr[b], tWR);
                close(b, larger(at + t[tRTP], precharge_ras[b]));
            end
        end
    endfunction

    function automatic void write(input int at, input int g, input int b, input bit closing);
        need(at, write_ccd_l[g], tCCD_L);
        need(at, write_ccd_s[g], tCCD_S);
        need(at, write_ccd_r[g], tCCD_R);
        need(at, write_rtw, tRTW);
        if (DATA_CLOCK) use_data_clock(at, 1'b0);
        for (int other = 0; other < BANK_GROUPS; other++)
            if (other == g) begin
                write_ccd_l[other] = at + t[tCCD_L];
                read_wtr_l[other] = at + t[tCWL] + t[tBL_L] + t[tWTR_L];
            end else begin
                if (other / GROUPS_PER_STACK == g / GROUPS_PER_STACK)
                    write_ccd_s[other] = at + t[tCCD_S];
                else write_ccd_r[other] = at + t[tCCD_R];
                read_wtr_s[other] = at + t[tCWL] + BURST_CYCLES + t[tWTR_S];
            end
        precharge_wr[b] = at + write_to_precharge;
        if (!row_open[b]) violate(ROW_CLOSED);
        else begin
            need(at, write_rcd[b], tRCDWR);
            if (closing) close(b, larger(at + write_to_precharge, precharge_ras[b]));
        end
    endfunction

    function automatic void check_refresh(input int at, input int b);
        if (row_open[b] || half_open && half_bank == b) violate(ROW_OPEN);
        need(at, activate_rp[b], tRP);
        need(at, activate_rpab, tRPab);
        need(at, activate_rc[b], tRC);
        need(at, any_rfcab, tRFCab);
        need(at, any_rfcpb[b], tRFCpb);
    endfunction

    function automatic void pay(input int s);
        if (owed[s] > -POSTPONED_REFRESHES) owed[s] = owed[s] - 1;
    endfunction

    function automatic void refresh_all(input int at);
        for (int b = 0; b < BANKS; b++) check_refresh(at, b);
        for (int s = 0; s < SETS; s++) pay(s);
        any_rfcab = at + t[tRFCab];
        refreshed = '0;
    endfunction

    function automatic void refresh_set(input int at, input int g, input int s);
        for (int b = s; b < BANKS; b += SETS) check_refresh(at, b);
        check_window(at, g);
        enter_window(at);
        need(at, refresh_pbr[s], tpbR2pbr);
        if (refreshed == '0) need(at, refresh_round, tpbRround);
        if (refreshed[s]) violate(REFRESH_ROUND);
        refreshed[s] = 1'b1;
        if (&refreshed) begin
            refreshed = '0;
            refresh_round = at + t[tpbRround];
        end
        for (int b = 0; b < BANKS; b++)
            if (b % SETS == s) any_rfcpb[b] = at + t[tRFCpb];
            else activate_pbr[b] = at + t[tpbR2act];
        for (int other = 0; other < SETS; other++)
            if (other != s) refresh_pbr[other] = at + t[tpbR2pbr];
        pay(s);
    endfunction

    function automatic void execute(
        input int at, input command_e issued, input int g, input int in_group
    );
        int b;
        b = g * BANKS_PER_GROUP + in_group;
        case (issued)
            ACT: begin
                begin_activate(at, b);
                activate(at + ACTIVATE_CYCLES - 1, g, b);
            end
            ACT1: begin
                if (half_open) violate(ACTIVATE_ORDER);
                begin_activate(at, b);
                half_open = 1'b1;
                half_late = 1'b0;
                half_bank = b;
                half_time = at;
            end
            ACT2:
                if (!half_open || half_bank != b) violate(ACTIVATE_ORDER);
                else begin
                    half_open = 1'b0;
                    activate(at, g, b);
                end
            RD, RDA: read(at, g, b, issued == RDA);
            WR, WRA: write(at, g, b, issued == WRA);
            PRE:     precharge(at, b);
            PREA:    precharge_all(at);
            REFAB:   refresh_all(at);
            REFPB:   refresh_set(at, g, b % SETS);
            CAS_RD, CAS_WR: begin
                cas_time = at;
                cas_command = issued;
            end
            default: ;
        endcase
    endfunction

    function automatic void begin_cycle(input int at);
        cas_promised = cas_time == at - 1;
        cas_served = 1'b0;
        if (half_open && !half_late && at - half_time > t[tAAD]) begin
            half_late = 1'b1;
            violate(tAAD);
        end
        due = until_due == 0;
        if (due) begin
            until_due = t[tREFI];
            for (int s = 0; s < SETS; s++) owed[s] = owed[s] + 1;
        end
        until_due = until_due - 1;
    endfunction

    function automatic void end_cycle(input int at);
        if (cas_promised && !cas_served) violate(CAS_ORDER);
        if (due)
            for (int s = 0; s < SETS; s++)
                if (owed[s] > POSTPONED_REFRESHES) violate(tREFI);
    endfunction

    initial begin
        for (int i = 0; i < TIMINGS; i++) begin
            rule_e timing;
            int    other;
            timing = rule_e'(i);
            t[i] = int'(TIMING[16*i +: 16]);
            if ($value$plusargs({NAME, "_", timing.name(), "=%d"}, other)) t[i] = other;
        end
        write_to_precharge = t[tCWL] + t[tBL_L] + t[tWR];
        forget();
    end

    always_ff @(posedge clk) begin
        if (rst) forget();
        else
            for (int phase = 0; phase < GEAR; phase++) begin
                begin_cycle(now + phase);
                report(now + phase);
                for (int slot = phase * BUSES; slot < (phase + 1) * BUSES; slot++)
                    if (command[slot] != NOP) begin
                        execute(now + phase, command[slot], bank_group[slot], bank[slot]);
                        report(now + phase);
                    end
                end_cycle(now + phase);
                report(now + phase);
            end
    end
endmodule
