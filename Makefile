# The targets are what CI runs. PYTHON picks the interpreter that .venv is made with (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
PLUGINS := $(sort $(wildcard plugins/*))
PROJECTS := pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))
GLYPHS := $(BIN)/ltbench run --suite glyphs100-lt --out runs/glyphs100-lt
EDITABLE := $(foreach plugin,$(PLUGINS),-e ./$(plugin))

PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8
SLOW := $(PYTEST) -m slow -p tests.slow --dist worksteal

.PHONY: demo test slow slow-tenth test-gpu check bench leaderboards clean

demo: .venv/demo.stamp  ## run the quickstart suite and print its tables
	$(BIN)/ltbench run --suite quickstart --out runs/quickstart
	$(BIN)/ltbench leaderboard runs/quickstart

test: .venv/test.stamp  ## run all tests but the slow ones
	$(PYTEST) --dist loadfile

slow: .venv/test.stamp  ## run all slow tests; if they pass, tests/slow.json says so and is to be committed
	$(SLOW) --slow-report tests/slow.json

slow-tenth: .venv/test.stamp  ## run a tenth of the slow tests, chosen by the commit, in three minutes at most
	$(SLOW) --slow-share 0.1 --slow-seed "$$(git rev-parse HEAD || echo none)" --slow-seconds 170

test-gpu: .venv/test.stamp  ## run the tests that need a CUDA device
	PYTHON=$(BIN)/python sh tests/gpu.sh

check: .venv/check.stamp  ## lint, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	for table in leaderboards/*/leaderboard.csv; do \
		board=$$(dirname "$$table"); $(BIN)/ltbench leaderboard "$$board" --out "$$board" --check || exit 1; done

bench: .venv/bench.stamp  ## measure; results go to benchmarks/results
	for script in benchmarks/*.py; do $(BIN)/python "$$script" || exit 1; done

leaderboards: .venv/demo.stamp  ## compute the committed leaderboards again: minutes and, for glyphs100-lt, hours
	$(BIN)/ltbench run --suite quickstart --out runs/quickstart
	$(BIN)/ltbench leaderboard runs/quickstart --out leaderboards/quickstart
	$(GLYPHS)
	$(GLYPHS) --no-reference -g covariance-transfer,head-tail-fuse,tailcalib --regime synthetic
	$(GLYPHS) --no-reference -g covariance-transfer,tailcalib -c balanced-softmax,lda --prior-source real
	$(BIN)/ltbench leaderboard runs/glyphs100-lt --out leaderboards/glyphs100-lt

clean:
	rm -rf .venv runs

.venv/demo.stamp: $(PROJECTS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e . $(EDITABLE)
	touch $@

.venv/test.stamp: .venv/demo.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]" $(EDITABLE)
	touch $@

.venv/bench.stamp: .venv/test.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[bench]" $(EDITABLE)
	touch $@

.venv/check.stamp: .venv/demo.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[check]" $(EDITABLE)
	touch $@
