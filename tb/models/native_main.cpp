// Drives a bench of tb.harness without Python: settings, clock until `done`, status.
//
//   <bench> SETTINGS STATUS [plusargs]
//
// SETTINGS holds one line per input port other than the clock, `<port> <hexadecimal value>`. STATUS
// receives every other port as a JSON number, and the time that the cycles took. This is the
// counterpart of stream_driver.py: whatever a run is judged by lies in the bench and in STATUS.
//
// The file ports.inc, made for the bench, lists its ports as PORT("name in Verilog", member).

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

constexpr std::uint64_t HALF_PERIOD = 1000;  // in units of 1 ps; as the clock of stream_driver.py

// A number of any width, least significant word first.
using Words = std::vector<std::uint32_t>;

template <typename Scalar>
Words words_of(const Scalar& port) {
    static_assert(std::is_unsigned_v<Scalar>, "ports of up to 64 bits are unsigned integers");
    const std::uint64_t value = port;
    return {static_cast<std::uint32_t>(value), static_cast<std::uint32_t>(value >> 32)};
}

template <std::size_t N>
Words words_of(const VlWide<N>& port) {
    return Words(port.data(), port.data() + N);
}

template <typename Scalar>
void assign(Scalar& port, const Words& value) {
    std::uint64_t number = 0;
    if (!value.empty()) number = value[0];
    if (value.size() > 1) number |= static_cast<std::uint64_t>(value[1]) << 32;
    port = static_cast<Scalar>(number);
}

template <std::size_t N>
void assign(VlWide<N>& port, const Words& value) {
    for (std::size_t i = 0; i < N; ++i) port[i] = i < value.size() ? value[i] : 0;
}

struct Port {
    const char* name;
    Words (*get)(const Vtop&);
    void (*set)(Vtop&, const Words&);
};

const Port PORTS[] = {
#define PORT(name, member)                                       \
    {name, [](const Vtop& top) { return words_of(top.member); }, \
     [](Vtop& top, const Words& value) { assign(top.member, value); }},
#include "ports.inc"
#undef PORT
};

Words from_hexadecimal(const std::string& digits) {
    Words value((digits.size() + 7) / 8);
    for (std::size_t i = 0; i < digits.size(); ++i) {
        const std::string digit(1, digits[digits.size() - 1 - i]);
        value[i / 8] |= static_cast<std::uint32_t>(std::stoul(digit, nullptr, 16)) << 4 * (i % 8);
    }
    return value;
}

std::string to_decimal(Words value) {
    std::string digits;
    while (!value.empty()) {
        std::uint64_t rest = 0;
        for (std::size_t i = value.size(); i-- > 0;) {
            rest = rest << 32 | value[i];
            value[i] = static_cast<std::uint32_t>(rest / 10);
            rest %= 10;
        }
        digits.insert(digits.begin(), static_cast<char>('0' + rest));
        while (!value.empty() && value.back() == 0) value.pop_back();
    }
    return digits.empty() ? "0" : digits;
}

// Set the ports that the file names and add their names to `names`; false if that is impossible.
bool apply_settings(Vtop& top, const char* path, std::set<std::string>& names) {
    std::ifstream file(path);
    std::string name, digits;
    while (file >> name >> digits) {
        const auto port = std::find_if(std::begin(PORTS), std::end(PORTS),
                                       [&](const Port& other) { return other.name == name; });
        if (port == std::end(PORTS)) {
            std::cerr << "native: the bench has no port " << name << std::endl;
            return false;
        }
        port->set(top, from_hexadecimal(digits));
        names.insert(name);
    }
    if (!file.eof()) std::cerr << "native: cannot read " << path << std::endl;
    return file.eof();
}

std::int64_t processor_time() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec * std::int64_t{1000000000} + now.tv_nsec;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::cerr << "usage: " << argv[0] << " SETTINGS STATUS [plusargs]" << std::endl;
        return 2;
    }
    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    // Without a name the bench is the root of every hierarchical name, as under cocotb.
    const auto top = std::make_unique<Vtop>(context.get(), "");
    std::set<std::string> unreported{"clk", "done"};
    top->clk = 0;
    if (!apply_settings(*top, argv[1], unreported)) return 2;
    top->eval();

    // The bench ends every run by itself: it raises `done` at its limit of cycles at the latest.
    using Clock = std::chrono::steady_clock;
    const auto started = Clock::now();
    const std::int64_t processor_started = processor_time();
    while (!top->done && !context->gotFinish()) {
        top->clk = 1;
        top->eval();
        context->timeInc(HALF_PERIOD);
        top->clk = 0;
        top->eval();
        context->timeInc(HALF_PERIOD);
    }
    const std::int64_t processor_spent = processor_time() - processor_started;
    const auto spent = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - started);

    if (top->done) {
        std::ofstream status(argv[2]);
        status << "{\"wall_ns\": " << spent.count() << ", \"cpu_ns\": " << processor_spent;
        for (const Port& port : PORTS)
            if (!unreported.count(port.name))
                status << ", \"" << port.name << "\": " << to_decimal(port.get(*top));
        status << "}\n";
    }
    top->final();
    // A failed assertion that did not stop the simulation is an error all the same.
    return top->done && context->errorCount() == 0 ? 0 : 1;
}
