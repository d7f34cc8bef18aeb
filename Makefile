# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A stamp per set of extras, renewed when what is to be installed changes.
STAMP = $(VENV)/.installed-$(1)-$(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)
DEMO_STAMP := $(call STAMP,train)
TEST_STAMP := $(call STAMP,dev)

.PHONY: demo test storm lint types quick clean gpu

demo: $(DEMO_STAMP)
	$(BIN)/dsv3data demo --out runs/demo

# Everything that CI runs.
test: $(TEST_STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Kills for each of tokenize and pack, flipped bits for each of a tokenizer, a token set and a packed
# set; DSV3DATA_TEST_SEED=… repeats a storm.
KILLS := 150
FLIPS := 2000
storm: $(TEST_STAMP)
	STORM_KILLS=$(KILLS) STORM_FLIPS=$(FLIPS) \
		DSV3DATA_TEST_SEED=$${DSV3DATA_TEST_SEED:-$$(od -An -N4 -tu4 /dev/urandom)} \
		$(BIN)/python -m pytest -q -s tests/faults/test_fault_storm.py

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(TEST_STAMP)
	$(BIN)/mypy

# On a machine with a Hopper GPU: check and time the FP8 kernels; JSON into $OUT (docs/fp8.md).
gpu:
	scripts/gpu.sh

clean:
	rm -rf $(VENV) runs

$(DEMO_STAMP):
	scripts/install.sh $(PYTHON) $(VENV) train
	touch $@

$(TEST_STAMP):
	scripts/install.sh $(PYTHON) $(VENV) train,dev
	touch $@ $(DEMO_STAMP)
