# Every command first makes the environment .venv if it is missing or its versions have changed.
.DEFAULT_GOAL := help
.SUFFIXES:

# What a user may set. VERILATOR=<program> chooses the simulator, see tb/harness/toolchain.py.
PYTHON ?= python3
TEST ?= attention_fused
# The configuration: a preset (lm if neither is given) or a TOML file.
PRESET ?=
CONFIG ?=
# A safetensors file of keys, values and queries for attention_fused.
KV ?=
# kvo, dense8 or dense16: what the cache holds.
MODE ?=
# ideal, a DRAM standard (hbm2-2000 for attention_fused if not given) or axi4 (each channel leaves as an
# AXI4 master), and its channels: 1, 2, 4.
MEMORY ?=
SLICES ?= 1
SEED ?= 1
WAVES ?=
# Who toggles the clock of a simulation: cocotb, or native for a faster C++ program without waves.
DRIVER ?= cocotb
SRAM ?=
# What to emit: attention_core, or accelerator (with MEMORY and SLICES).
TOP ?= attention_core
ARGS ?=
TORCH_INDEX ?=

# Cores to run tests on.
WORKERS ?= $(shell nproc)

PY := .venv/bin/python
VERSIONS := $(shell cat pyproject.toml hw/tools/setup.sh | sha256sum | cut -c 1-12)
RTL := .venv/.ready-rtl-$(VERSIONS)
ALL := .venv/.ready-all-$(VERSIONS)
DESIGN = $(if $(PRESET),--preset "$(PRESET)") $(if $(CONFIG),--config "$(CONFIG)")
PYTEST = $(PY) -m pytest tb/ -n $(WORKERS) --seed "$(SEED)" $(ARGS)

# Verilog and area need less: no torch and no simulator.
$(RTL):
	@PYTHON="$(PYTHON)" hw/tools/setup.sh rtl
	@rm -f .venv/.ready-*
	@touch $@

$(ALL):
	@PYTHON="$(PYTHON)" TORCH_INDEX="$(TORCH_INDEX)" hw/tools/setup.sh all
	@rm -f .venv/.ready-*
	@touch $(RTL) $@

.PHONY: help
help: ## This list
	@echo "Usage: make <command> [NAME=value ...]"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Values: TEST=$(TEST) PRESET=$(or $(PRESET),lm) SEED=$(SEED) WAVES=1 (record waves)"
	@echo "        DRIVER=$(DRIVER) (or native: faster, for long runs, no waves)"
	@echo "        MODE=kvo, dense8 or dense16 (what the cache holds)"
	@echo "        MEMORY=hbm2-2000, another DRAM standard (docs/dram.md), axi4 or ideal; SLICES=1, 2 or 4"
	@echo "        TOP=attention_core, decode_core or accelerator (what verilog writes)"
	@echo "        CONFIG=<file.toml> (in place of PRESET: fields of AttentionConfig, see hw/config.py)"
	@echo "        SRAM=1 (large memories as modules to replace by macros, see docs/integration.md)"
	@echo "        KV=<file.safetensors> (your tensors, see golden/user_tensors.py)"
	@echo "        TORCH_INDEX=<url> (package index to take torch from, in setup)"
	@echo "        VERILATOR=<program>  WORKERS=<cores>  ARGS=<more arguments of the command>"

.PHONY: setup
setup: $(ALL) ## Make the environment .venv from pinned versions
	@echo "The environment .venv is ready."

.PHONY: sim
sim: $(ALL) ## Run one integration test on the Verilated design (TEST, PRESET or CONFIG, MODE, KV, MEMORY, SLICES, SEED, WAVES, DRIVER)
	@$(if $(filter-out 0,$(WAVES)),$(PYTHON) hw/tools/check_system.py waves)
	@$(PY) -m tb.run "$(TEST)" $(DESIGN) $(if $(KV),--kv "$(KV)") \
		$(if $(MODE),--mode "$(MODE)") $(if $(MEMORY),--memory "$(MEMORY)") --slices "$(SLICES)" --seed "$(SEED)" \
		--driver "$(DRIVER)" $(if $(filter-out 0,$(WAVES)),--waves) $(ARGS)

.PHONY: test
test: $(ALL) ## Run the tests, but for the slow ones (SEED)
	@$(PYTEST)

.PHONY: bench
bench: $(ALL) ## Measure presets x modes x contexts, DRAM, generation: tables, JSON, picture in build/bench (SEED)
	@$(PY) -m tb.bench --seed "$(SEED)" $(ARGS)
	@$(PY) -m tb.bench.accelerator --seed "$(SEED)"
	@$(PY) -m tb.bench.dram --seed "$(SEED)"
	@$(PY) -m tb.bench.layouts --seed "$(SEED)"
	@$(PY) -m tb.bench.generation --seed "$(SEED)"
	@$(PY) -m tb.bench.generation_dram --seed "$(SEED)"

.PHONY: quality
quality: $(ALL) ## Measure what cache methods cost in quality and traffic (ARGS=--sweep, --full, --publish; --help)
	@$(PY) -m golden.quality $(ARGS)

.PHONY: progressive
progressive: $(ALL) ## Measure variants of the progressive format (ARGS=--publish; --help)
	@$(PY) -m golden.quality.progressive_study $(ARGS)

.PHONY: verilog
verilog: $(RTL) ## Write Verilog, package, sidecar and register map (PRESET or CONFIG, SRAM; TOP, MEMORY, SLICES)
	@$(PY) -m hw.tools verilog $(DESIGN) $(if $(filter-out 0,$(SRAM)),--sram) \
		$(if $(filter-out attention_core,$(TOP)),--top "$(TOP)") \
		$(if $(MEMORY),--memory "$(MEMORY)") $(if $(filter-out 1,$(SLICES)),--slices "$(SLICES)") $(ARGS)

.PHONY: area
area: $(RTL) ## Report area and depth of each module (PRESET or CONFIG)
	@$(PY) -m hw.tools area $(DESIGN) $(ARGS)

.PHONY: mutants
mutants: $(ALL) ## Inject faults into the Verilog and see the tests find them
	@$(PY) -m tb.mutants $(ARGS)

.PHONY: regress
regress: lint ## Everything: linters, all tests with the slow ones, mutants
	@$(PYTEST) -m "slow or not slow"
	@$(PY) -m tb.mutants

.PHONY: lint
lint: $(ALL) ## Check style, format and types
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy

.PHONY: format
format: $(ALL) ## Format the sources
	@$(PY) -m ruff check --fix --select I
	@$(PY) -m ruff format

.PHONY: clean
clean: ## Remove builds, reports and caches, not the environment
	rm -rf build .pytest_cache .mypy_cache .ruff_cache
