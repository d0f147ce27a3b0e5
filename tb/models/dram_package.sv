// What the parts of the DRAM device model share: command codes, rules, names. docs/dram.md lists them.
package dram_package;
    typedef enum int {
        NOP    = 0,
        ACT    = 1,
        ACT1   = 2,
        ACT2   = 3,
        RD     = 4,
        WR     = 5,
        RDA    = 6,
        WRA    = 7,
        PRE    = 8,
        PREA   = 9,
        REFAB  = 10,
        REFPB  = 11,
        CAS_RD = 12,
        CAS_WR = 13
    } command_e;

    // The timing parameters, in the order of the parameter TIMING, then the rules without one.
    typedef enum int {
        tCL, tCWL, tBL_L,
        tRCDRD, tRCDWR, tRP, tRPab, tRAS, tRC, tRTP, tWR, tPPD,
        tCCD_S, tCCD_L, tCCD_R, tRTW, tWTR_S, tWTR_L,
        tRRD_S, tRRD_L, tFAW, tRFCab, tREFI,
        tRFCpb, tpbR2act, tpbR2pbr, tpbRround, tAAD, tWCKPST,
        COMMAND, BUS, ROW_OPEN, ROW_CLOSED, ACTIVATE_ORDER, CAS_ORDER, WCK_OFF, REFRESH_ROUND
    } rule_e;

    localparam int TIMINGS = int'(tWCKPST) + 1;
    localparam int RULES   = int'(REFRESH_ROUND) + 1;

    function automatic bit is_read(input command_e command);
        return command == RD || command == RDA;
    endfunction

    function automatic bit is_write(input command_e command);
        return command == WR || command == WRA;
    endfunction

    function automatic bit is_column(input command_e command);
        return is_read(command) || is_write(command) || command == CAS_RD || command == CAS_WR;
    endfunction

    function automatic int larger(input int a, input int b);
        return a > b ? a : b;
    endfunction
endpackage
