# Everything a newcomer needs: `make setup`, then `make demo`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
NODE_IS_MISSING := { [ -z "$$RAILWATCH_NODES_REQUIRED" ] && echo "set-up goes on without it: its tests will be skipped, and say so"; }
WORKERS ?= 2
# On a busy machine a test that waits for a real node may fail. With RAILWATCH_SECOND_RUN the failed ones run once more,
# alone, and their names stay in the output. A defect fails twice. (Status 1: tests failed; anything else is not repeated.)
SECOND_RUN := { [ $$? = 1 ] && [ -n "$$RAILWATCH_SECOND_RUN" ] && echo "The failed tests run once more, alone:" && \
	$(BIN)/pytest --last-failed --last-failed-no-failures=none -v --ignore=tests/core; }
PG_OLDEST ?= /usr/lib/postgresql/15/bin

# Without .pyc files each worker and each `railwatch` process of a test compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup docs demo run fmt test test-fast test-long test-oldest test-dialects dialects balancer check model mutants fuzz-nodes fuzz-sql fuzz-receivers fuzz-clients siege bench recordings generated lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "%-15s %s\n", $$1, $$2 }'

setup: $(STAMP) .dev/anvil/bin/anvil .dev/bitcoind/bin/bitcoind .dev/litecoind/bin/litecoind  ## install what is pinned, and the development nodes

$(STAMP): requirements/dev.lock pyproject.toml dev/pyproject.toml scripts/wheel_files.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . --editable dev
	touch $@

.dev/anvil/bin/anvil: scripts/get-anvil.sh
	scripts/get-anvil.sh .dev/anvil

# Without one of these nodes everything else works, so set-up goes on, unless they are required (as in CI).
.dev/bitcoind/bin/bitcoind: scripts/get-bitcoind.sh scripts/from-debian.sh
	@scripts/get-bitcoind.sh .dev/bitcoind || $(NODE_IS_MISSING)

.dev/litecoind/bin/litecoind: scripts/get-litecoind.sh scripts/from-debian.sh
	@scripts/get-litecoind.sh .dev/litecoind || $(NODE_IS_MISSING)

demo: setup  ## the whole job on a real node and a real Postgres: stories, a live view, a table
	$(BIN)/railwatch demo $(ARGS)

run: setup  ## the daemon, with the example configuration: make run CONFIG=my.toml
	$(BIN)/railwatch run --config $(or $(CONFIG),config/railwatch.example.toml)

test: setup  ## stories against real nodes and Postgres, and the model tests of the core
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q --numprocesses=$(WORKERS) --dist=worksteal tests/core
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=100 --skip-covered
	$(BIN)/pytest -m "not long" --numprocesses=$(WORKERS) --dist=worksteal --ignore=tests/core $(ARGS) || $(SECOND_RUN)

# No node and no chain: the pure core without its long models, configuration, decoding, the daemon's parts, and stories on the fake rail.
FAST := tests/core tests/daemon tests/test_config.py tests/conformance/test_fake.py tests/scenarios/test_stories.py \
	$(wildcard tests/*/test_address.py tests/*/test_decode.py tests/*/test_wire.py)

test-fast: setup  ## a part that starts no node, for while you work
	RAILWATCH_CORE_SHARE=0.05 $(BIN)/pytest -q --numprocesses=$(WORKERS) -k "not tales and not sixteen_bytes" \
		-m "not long and not anvil and not bitcoind and not litecoind and not solana" $(FAST) $(ARGS)

test-long: setup  ## kills at every statement, tables of 200,000, every story of every demo (three minutes)
	$(BIN)/pytest -m long --numprocesses=$(WORKERS) --dist=worksteal $(ARGS)

test-oldest: setup  ## contract, steps, stories and migrations on the oldest Postgres that is supported, where it is installed
	RAILWATCH_PG_BIN=$(PG_OLDEST) $(BIN)/pytest -q tests/store/contract tests/store/test_steps.py \
		tests/scenarios/test_stories.py tests/migration

test-dialects: setup  ## the conformance suite in the dialect of every EVM client that is played (four minutes)
	RAILWATCH_DIALECTS=all $(BIN)/pytest -q --numprocesses=$(WORKERS) tests/nodes/test_dialects.py

dialects: setup  ## the conformance kit in the dialects of all clients that a fake node speaks
	RAILWATCH_DIALECTS=all $(BIN)/pytest -q tests/nodes

balancer: setup  ## an endpoint whose nodes differ, through the whole daemon, 50 times in a row on each family of rails
	RAILWATCH_BALANCER=50 $(BIN)/pytest -q -rP --show-capture=stdout --numprocesses=$(WORKERS) tests/scenarios/test_balancer.py

fmt: setup  ## format the code, and fix what ruff can fix by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: setup  ## style, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

recordings: setup  ## record the development nodes anew, with the ledgers that follow: make recordings ARGS=evm-reorg
	$(BIN)/python -m tests.recordings $(ARGS)

model: setup  ## many random stories against the oracle: make model ARGS="--examples 20000 --resume .railwatch/model/done.json"
	$(BIN)/python -m tests.model $(ARGS)

mutants: setup  ## plant defects, and see that the model finds each: make mutants ARGS="amount-stays no-fence"
	$(BIN)/python -m tests.model.mutants $(ARGS)

fuzz-nodes: setup  ## hostile answers of nodes, three minutes: make fuzz-nodes ARGS="--minutes 60"
	nice $(BIN)/python -m tests.fuzz.nodes $(ARGS)

fuzz-sql: setup  ## hostile arguments of every SQL function, three minutes: make fuzz-sql ARGS="--minutes 60"
	nice $(BIN)/python -m tests.fuzz.sql $(ARGS)

fuzz-receivers: setup  ## hostile receivers of webhooks, three minutes: make fuzz-receivers ARGS="--minutes 60"
	RAILWATCH_ENDPOINTS=96 nice $(BIN)/pytest -q tests/fuzz/test_receivers.py
	nice $(BIN)/python -m tests.fuzz.receivers $(ARGS)

fuzz-clients: setup  ## hostile clients of the health pages, 20,000 of them (some four minutes)
	RAILWATCH_CLIENTS=20000 nice $(BIN)/pytest -q -s tests/fuzz/test_clients.py $(ARGS)

siege: setup  ## hostile nodes, clients and receivers at once, ten minutes; the honest ledger next to a quiet run's: make siege ARGS="--hours 2"
	$(BIN)/python -m tests.siege $(ARGS)

bench: setup  ## our numbers next to the floor measured in the same run
	$(BIN)/python -m tests.bench $(ARGS)

generated: setup  ## write the SQL and the diagrams that are derived from code and catalog
	$(BIN)/python scripts/generate.py

docs: setup .venv/.docs  ## the documentation site, strictly: .railwatch/site/html/index.html; make docs ARGS=serve
	@[ -e .dev/mermaid/mermaid.min.js ] || scripts/get-mermaid.sh .dev/mermaid || true
	$(BIN)/python scripts/build_docs.py $(ARGS)

.venv/.docs: requirements/docs.lock $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.lock
	touch $@

lock:  ## pin again what pyproject.toml asks for (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		pyproject.toml -o requirements/run.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--extra dev --extra build -c requirements/run.lock pyproject.toml -o requirements/dev.lock
	printf '%s\n' hatchling editables | uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --no-emit-index-url -c requirements/dev.lock - -o requirements/build.lock
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--extra docs -c requirements/dev.lock pyproject.toml -o requirements/docs.lock

clean:
	rm -rf $(VENV) .dev .railwatch bench-results
