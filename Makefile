# The commands of a contributor. You need Python 3.11 or later and make.

PYTHON ?= python3
# The supported Pythons, the oldest first.
PYTHONS ?= 3.11 3.12 3.13
NEWEST ?= $(lastword $(PYTHONS))
RESOLUTIONS ?= lowest-direct highest
export PORT ?= 8000
export ISSUER_PORT ?= 3001

# pyenv runs only the selected Pythons by name, so all supported ones are selected, the oldest first.
ifneq ($(shell command -v pyenv),)
export PYENV_VERSION := $(shell pyenv versions --bare | grep -E '^3\.1[1-9]\.' | sort -V | paste -sd: -)
endif

VENV := .venv
BIN := $(VENV)/bin
SYNC := $(BIN)/uv sync --frozen --inexact --quiet --no-default-groups --extra testing
# One more worker than there are cores, because some tests wait for a process or a server.
PARALLEL := -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
UNIT_TESTS := $(PARALLEL) tests/unit
INTEGRATION_TESTS := $(PARALLEL) --dist loadgroup tests/integration
# The folders with packages from npm: the real OpenID Connect server, the CDN assets of the docs pages, the conformance
# suites for MCP servers, the verifiers that the attack suite compares with, and the pages of the examples.
VERIFIERS := tests/attack/npm
NPM_FOLDERS := $(addprefix tests/,integration/oidc_provider integration/docs_assets suites/mcp_conformance) $(VERIFIERS) \
	examples/react examples/vue

.DEFAULT_GOAL := help
.PHONY: help demo revocation test tools attack prove mutants screenshots lint types docs recordings dist package lowest newest audit sbom \
	release bench all clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 14

demo: $(VENV)/demo.stamp  ## run the example against a local issuer
	@exec $(BIN)/python -m example_app.demo

revocation: $(VENV)/demo.stamp  ## suspend a user and watch four workers refuse the token; needs redis-server
	@exec $(BIN)/python -m example_app.revocation

test: $(VENV)/integration.stamp npm  ## run all tests of the package and list the skipped ones; COVERAGE=1 requires full coverage
ifneq ($(ARGS),)
	$(BIN)/python -m pytest $(ARGS)
else ifneq ($(COVERAGE),)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q $(UNIT_TESTS)
	$(BIN)/coverage run -m pytest -q $(INTEGRATION_TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
else
	$(BIN)/python -m pytest -q $(UNIT_TESTS)
	$(BIN)/python -m pytest -q $(INTEGRATION_TESTS)
endif

tools: $(VENV)/integration.stamp npm  ## run the tests of the project's own tools, its site and its suites
	$(BIN)/python -m pytest -q $(PARALLEL) tests/tools tests/suites

attack: $(VENV)/integration.stamp $(VERIFIERS)/node_modules/stamp  ## run the attack suite; needs Node.js, takes up to five minutes
	@$(BIN)/python -m tests.attack

prove: $(VENV)/integration.stamp  ## run random events, requests and responses against a model; takes up to half an hour
	@$(BIN)/python -m tests.prove

mutants: $(VENV)/test.stamp  ## put small faults into the package and list those that no test notices; takes hours
	@$(BIN)/python -m tests.mutants $(ARGS)

screenshots: $(VENV)/integration.stamp npm  ## update the screenshots of the documentation, with the tests of its pages
	FASTAPI_LOGTO_SCREENSHOTS=1 $(BIN)/python -m pytest -q tests/integration/test_docs_pages.py -k "tutorial or example"

lint: $(VENV)/lint.stamp  ## check format, lint rules, layers and workflows
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github

types: $(VENV)/lint.stamp  ## run mypy and pyright in strict mode
	$(BIN)/mypy
	$(BIN)/pyright

docs: $(VENV)/docs.stamp  ## build the documentation in strict mode
	$(BIN)/zensical build --strict --clean
	$(BIN)/python -m tests.site

recordings: $(VENV)/test.stamp  ## update the recordings of the command line in the documentation
	$(BIN)/python -m tests.recordings

# The wheel, the sdist, and the tests without the packages: there, only an installed wheel can be imported.
SUITE := build/suite
dist: $(BIN)/uv
	rm -rf dist $(SUITE)
	$(BIN)/uv build --quiet
	mkdir -p $(SUITE)
	tar -xzf dist/*.tar.gz -C $(SUITE) --strip-components=1
	rm -r $(SUITE)/fastapi_logto $(SUITE)/pytest_fastapi_logto

package: dist $(VENV)/package.stamp  ## check the wheel and the sdist, install them on each Python, and check the public types
	$(BIN)/uv build --quiet --out-dir build/again --clear
	$(BIN)/python -m tests.package dist build/again
	$(BIN)/twine check --strict dist/*.whl dist/*.tar.gz
	@set -e; for python in $(PYTHONS); do for resolution in $(RESOLUTIONS); do \
		echo "package: Python $$python, $$resolution dependencies"; \
		$(BIN)/uv venv --quiet --clear --no-python-downloads --python $$python build/wheel; \
		$(BIN)/uv pip install --quiet --python build/wheel/bin/python --resolution $$resolution \
			-r pyproject.toml --extra testing --extra cli; \
		$(BIN)/uv pip install --quiet --python build/wheel/bin/python --no-deps dist/*.whl; \
		$(BIN)/uv pip check --quiet --python build/wheel/bin/python; \
		(cd build && wheel/bin/python -P ../tests/wheel.py); \
	done; done
	cd build && PATH="$$PWD/wheel/bin:$$PATH" ../$(BIN)/pyright --ignoreexternal --verifytypes fastapi_logto

lowest: dist  ## run the unit tests against the wheel, with the oldest supported dependencies, on Python 3.12
	$(BIN)/uv venv --quiet --clear --no-python-downloads --python 3.12 .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
		-r pyproject.toml --extra testing --extra cli --group lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --no-deps dist/*.whl
	cd $(SUITE) && $(CURDIR)/.venv-lowest/bin/python -m pytest -q $(PARALLEL) $(or $(ARGS),tests/unit)

newest: dist  ## run the unit tests against the wheel, on the newest supported Python
	$(BIN)/uv venv --quiet --clear --no-python-downloads --python $(NEWEST) .venv-newest
	UV_PROJECT_ENVIRONMENT=.venv-newest $(SYNC) --no-install-project --group test --python $(NEWEST)
	$(BIN)/uv pip install --quiet --python .venv-newest/bin/python --no-deps dist/*.whl
	cd $(SUITE) && $(CURDIR)/.venv-newest/bin/python -m pytest -q $(PARALLEL) $(or $(ARGS),tests/unit)

# What an installed package can bring: the runtime dependencies and all extras.
EXPORT := $(BIN)/uv export --frozen --quiet --no-default-groups --all-extras --no-emit-project
audit: $(VENV)/package.stamp  ## look for known vulnerabilities in the locked dependencies
	@mkdir -p build
	$(EXPORT) --output-file build/requirements.txt
	$(BIN)/pip-audit --requirement build/requirements.txt --require-hashes --disable-pip --strict

sbom: $(BIN)/uv  ## write the bill of materials (CycloneDX) of the locked dependencies to build/sbom.json
	@mkdir -p build
	$(BIN)/uv export --frozen --quiet --no-default-groups --all-extras --format cyclonedx1.5 \
		--preview-features sbom-export --output-file build/sbom.json

release: $(BIN)/uv  ## check, build and tag VERSION; pushes and uploads nothing
	@$(BIN)/python -m tests.release check $(VERSION)
	@$(MAKE) --no-print-directory package sbom
	@$(BIN)/python -m tests.release tag $(VERSION)

# The scenario `unrelated` compares the supported Pythons.
BENCH_PYTHONS := $(if $(ARGS),$(if $(filter unrelated,$(ARGS)),$(PYTHONS)),$(PYTHONS))
bench: .venv-bench/stamp $(BENCH_PYTHONS:%=.venv-bench-%/stamp)  ## measure the performance claims of the documentation and the peers; ARGS selects scenarios
	@command -v wrk >/dev/null || { echo "bench: expected wrk, which makes the load, found none; apt-get install wrk"; exit 1; }
	.venv-bench/bin/python -m benchmarks $(ARGS)

.venv-bench/stamp: $(BIN)/uv benchmarks/peers.txt pyproject.toml
	$(BIN)/uv venv --quiet --clear --no-python-downloads --python 3.12 .venv-bench
	$(BIN)/uv pip install --quiet --python .venv-bench/bin/python -r benchmarks/peers.txt --editable ".[testing,aws-lc,redis]"
	@touch $@

.venv-bench-%/stamp: $(BIN)/uv benchmarks/peers.txt pyproject.toml
	$(BIN)/uv venv --quiet --clear --no-python-downloads --python $* .venv-bench-$*
	$(BIN)/uv pip install --quiet --python .venv-bench-$*/bin/python --constraint benchmarks/peers.txt \
		uvloop httptools --editable ".[testing,aws-lc]"
	@touch $@

all: lint types tools lowest newest docs package
	$(MAKE) test COVERAGE=1

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: expected Python 3.11 or later, found $$($(PYTHON) --version); set PYTHON=python3.12, for example"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9"

$(VENV)/demo.stamp: $(BIN)/uv pyproject.toml uv.lock
	$(SYNC) --group demo
	@touch $@

$(VENV)/test.stamp $(VENV)/integration.stamp $(VENV)/lint.stamp $(VENV)/docs.stamp \
$(VENV)/package.stamp: $(VENV)/%.stamp: $(BIN)/uv pyproject.toml uv.lock
	$(SYNC) --group $*
	@touch $@

# Without npm, the tests that need these packages are skipped with a message.
.PHONY: npm
npm:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(NPM_FOLDERS:=/node_modules/stamp); fi

$(NPM_FOLDERS:=/node_modules/stamp): %/node_modules/stamp: %/package-lock.json
	npm ci --prefix $* --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf $(VENV) .venv-* dist site build .cache .coverage .coverage.* $(NPM_FOLDERS:=/node_modules)
