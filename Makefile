# On a fresh machine, `make demo` and `make test` are enough: each creates the environment and files that it needs.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
LIMITS := --timeout 300
# Whole rollouts and real engines first: the many short files at the end keep all processes busy until then.
HEAVY := $(addprefix tests/,e2e zoo packaging site sim agent)
TESTS ?= $(HEAVY) $(filter-out $(HEAVY) tests/lab tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/))) $(wildcard tests/test_*.py)
LAB ?= lab
# In this order, before the others: what a rollout may never lose or break, then the service.  The first is the longest, too.
LAB_FIRST := $(addprefix tests/,lab/test_lab_power.py lab/test_lab_lease.py e2e/test_random_kills.py lab/test_lab_push_verify.py \
	lab/test_lab_service_switch.py lab/test_lab_service_unattended.py lab/test_lab_service.py lab/test_lab_python_roots.py)

.PHONY: demo test lint lab lab-test bench bench-docs bench-against schema docs pictures clean system-ssh system-test system-lab

$(VENV)/.done: pyproject.toml tools/setup.sh
	tools/setup.sh $(VENV)
	touch $@

demo: $(VENV)/.done system-ssh
	$(BIN)/litefleet demo

test: $(VENV)/.done system-test
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not lab and not long" $(LIMITS) $(TESTS)
	tools/test-agent-37.sh $(BIN)

lint: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini tests bench
	$(BIN)/lint-imports

lab: $(VENV)/.done system-lab
	$(BIN)/python -m tests.lab

# START_UNTIL=SECONDS (since 1970): later none of these tests is started; the end of the report names those that were not.
lab-test: $(VENV)/.done system-lab
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "$(LAB)" --timeout 900 \
		$(if $(START_UNTIL),-p tests.start_limit --start-until $(START_UNTIL)) \
		$(LAB_FIRST) $(filter-out $(LAB_FIRST),$(wildcard tests/lab/test_*.py)) tests/sim tests/e2e/test_random_cuts.py

# What would end after MINUTES is left out; RESULTS.json holds all that was measured, and `make bench-docs` writes the tables
# and pictures of docs/performance.md from it.
MINUTES ?= 25
bench: $(VENV)/.done system-ssh
	$(BIN)/python -m bench.fleet --minutes $(MINUTES) --json RESULTS.json

bench-docs: $(VENV)/.done
	$(BIN)/python -m bench.tables RESULTS.json docs/performance.md docs/performance.zh.md
	$(BIN)/python -m bench.pictures RESULTS.json docs/pictures

# This tree beside the commit before; two minutes. COMMIT=... for another one.
bench-against: $(VENV)/.done system-ssh
	$(BIN)/python -m bench.against $(COMMIT) --devices 4 --rounds 2

# The wheel in dist/, and its list of parts (CycloneDX) beside it.
wheel: $(VENV)/.done
	rm -rf dist && $(BIN)/uv build -q --wheel --no-create-gitignore -o dist .

sbom: wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/sbom.sh dist/litefleet.cdx.json dist/litefleet-*.whl

# What the wheel installs below share/man; run it when a command, an option or its help changes.
man: $(VENV)/.done
	$(BIN)/litefleet --lang en docs --man > integrations/man/man1/litefleet.1
	$(BIN)/litefleet --lang zh docs --man > integrations/man/zh_CN/man1/litefleet.1

schema: $(VENV)/.done
	$(BIN)/python -m litefleet_inventory.schema

# The documentation as a site in build/site, in both languages; loads nothing from a network, neither now nor when it is read.
docs: $(VENV)/.done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q
	@echo "build/site/index.html; with search: $(BIN)/python -m http.server -b 127.0.0.1 -d build/site 8000"

# The pictures of the documentation: the architecture's drawn, those of the terminal recorded from the demo's fleet; one to two minutes.
pictures: $(VENV)/.done system-ssh
	$(BIN)/python -m tools.docs_site.diagram
	$(BIN)/python -m tools.docs_site.pictures

# System packages: installed as root, else named; the demo then uses its own SSH server.
system-ssh:
	@tools/system-packages.sh openssh-server:/usr/sbin/sshd openssh-client:ssh

system-test:
	@tools/system-packages.sh openssh-server:/usr/sbin/sshd openssh-client:ssh tcsh fish mksh zsh busybox-static:busybox systemd:systemd-analyze g++ chromium fonts-noto-cjk prometheus:promtool \
		postgresql:$(firstword $(wildcard /usr/lib/postgresql/*/bin/postgres) postgres)

system-lab:
	@tools/system-packages.sh $$(grep -v '^\#' tests/lab/packages.txt)

clean:
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis litefleet-demo
