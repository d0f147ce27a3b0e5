// In front of every C++ file of a simulation built for small runs, and compiled once for all of
// them: reading these headers is most of what a small file costs.

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "verilated.h"

// What runs once, at the start, is half of a model's text: it is not worth optimising.
#ifdef __GNUC__
#undef VL_ATTR_COLD
#ifdef __clang__
#define VL_ATTR_COLD __attribute__((cold, optnone, noinline))
#else
#define VL_ATTR_COLD __attribute__((cold, optimize("O0")))
#endif
#endif
