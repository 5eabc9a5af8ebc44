# Everything a fresh machine needs: `make demo` runs the main job, `make test` passes the tests.
# Expects Python 3.11 to 3.13 with venv, and make; on Debian or Raspberry Pi OS:
#   sudo apt install make python3-venv

PYTHON ?= python3
BIN := .venv/bin
DIST := dist
PIP := $(BIN)/pip --disable-pip-version-check --quiet

# Processes that run the tests: one a core, of which each takes up to 2 GB of memory.
WORKERS ?= $(shell nproc | awk '{print ($$1 < 4 ? $$1 : 4)}')
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
PROGRAMS = $(shell sed 's/\#.*//' requirements/debian.txt)

.PHONY: demo test test-slow fuzz soak test-programs host lint docs docs-serve lock ship deb sbom audit

demo: .venv/view
	$(BIN)/sonolite demo

test: .venv/host lint
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

# The tests that take minutes each, and those that hold the program to a time, with the limits of a
# machine that does nothing else.
test-slow: .venv/host
	SONOLITE_QUIET=1 $(BIN)/pytest -m "slow or timing" $(TESTS)

# Feeds each reader of foreign bytes with broken ones, MINUTES long, and tells how many it read. FUZZ
# names some of the readers: make fuzz MINUTES=5 FUZZ="manifest video". What it finds is kept in .fuzz.
MINUTES ?= 1
fuzz: .venv/host
	nice $(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(FUZZ)

# The service for SOAK_HOURS hours on a recording, a stream that breaks every minute, and faults: it
# keeps its memory, descriptors and threads.
export SOAK_HOURS ?= 8
soak: .venv/host
	$(BIN)/pytest -m soak tests/soak -s -o faulthandler_timeout=0

# The programs that tests run: an SSH server, a browser and others. On a machine of your own, note
# that Debian starts the SSH server as a service. npm brings the JSON schema of FHIR.
test-programs:
	@if command -v npm > /dev/null; then \
		npm ci --prefix requirements/npm --ignore-scripts --no-audit --no-fund --silent \
			|| echo "npm failed: the tests of FHIR against the published schema are skipped"; \
	else \
		echo "there is no npm: the tests of FHIR against the published schema are skipped"; \
	fi
	@if ! command -v apt-get > /dev/null; then \
		echo "there is no apt-get: install by hand what requirements/debian.txt lists"; \
	elif dpkg-query --show --showformat '$${db:Status-Status}\n' $(PROGRAMS) 2>&1 | grep -qvx installed; then \
		$(SUDO) apt-get --quiet update && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --no-install-recommends \
			install $(PROGRAMS); \
	fi

host: .venv/host

lint: .venv/host
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# The documentation as a site, in site/index.html. A warning is an error.
docs: .venv/host docs/recipe.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# The same site on http://127.0.0.1:8000, built again whenever a page changes.
docs-serve: .venv/host docs/recipe.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

# The page of every recipe and its keys, made from the recipes and the classes that read them.
docs/recipe.md: docs/recipe_page.py train/recipe.py train/recipe_keys.py train/augmentation.py train/samples.py train/locator/recipe.py $(wildcard train/recipes/*.toml train/locator/*.toml) $(addprefix edge_runtime/bundle/,manifest.py policies.py preprocess.py)
	$(BIN)/python -m docs.recipe_page > $@.new && mv $@.new $@

# The device's part alone: no tensorflow, about 340 MB.
.venv/device: requirements/device.txt pyproject.toml
	@echo "installing the runtime into .venv"
	@test -d .venv || $(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes -r requirements/device.txt
	@$(PIP) install --no-deps -e .
	@touch $@

# The live view on top, 20 MB.
.venv/view: requirements/view.txt .venv/device
	@$(PIP) install --require-hashes --no-deps -r requirements/view.txt
	@touch $@

# The host's part on top: tensorflow, about 2.5 GB.
.venv/host: requirements/host.txt .venv/device
	@echo "installing the trainer, the converter and the tests' tools into .venv"
	@$(PIP) install --require-hashes -r requirements/host.txt
	@$(PIP) install --require-hashes --no-deps -r requirements/peers.txt
	@touch $@

# Renews the lock files from pyproject.toml.
lock: export UV_CUSTOM_COMPILE_COMMAND = make lock
lock: .venv/host
	for which in device "host --extra train --extra dicom --extra stream --extra view --extra exam --extra prometheus --extra mqtt --extra docs --extra dev" "tflite-runtime --extra tflite-runtime --no-emit-package ai-edge-litert"; do \
		set -- $$which; out=requirements/$$1.txt; shift; \
		$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
			--no-emit-index-url pyproject.toml "$$@" -o $$out; \
	done
	# What a source, a view and some sinks need beside the runtime, in the runtime's versions.
	for extra in stream dicom view prometheus mqtt; do \
		$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 \
			--no-emit-index-url pyproject.toml --extra $$extra --constraints requirements/device.txt \
			$$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements/device.txt) \
			-o requirements/$$extra.txt; \
	done
	# Alone: what mediapipe asks for would overwrite the headless OpenCV, and what pyigtl asks for has
	# to be compiled, where crcmod-plus has not.
	printf "mediapipe>=1.2\npyigtl>=0.3.4\ncrcmod-plus>=2.3\n" | $(BIN)/uv pip compile --quiet --upgrade \
		--universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-deps - \
		-o requirements/peers.txt

# Puts the runs RUN, of a classifier, and LOCATOR into the package as one bundle of version VERSION,
# signed by a key that signs nothing else and is then forgotten. QUOTE names other runs of the
# classifier's recipe for the card: make ship RUN=run LOCATOR=locator VERSION=3 QUOTE="--quote folds"
ship: .venv/host
	@git diff --quiet HEAD || { echo "commit first: the bundle names the commit that made it"; exit 1; }
	new=$$(mktemp -d) && trap "rm -rf $$new" EXIT && export SONOLITE_TRUST=$$new/keys && \
		$(BIN)/sonolite keys new --out $$new/key.pem --name demo && \
		$(BIN)/sonolite convert $(RUN) --out $$new/classifier.sonolite --variants int8 \
			--key $$new/key.pem $(QUOTE) && \
		$(BIN)/sonolite convert $(LOCATOR) --classifier $$new/classifier.sonolite --out $$new/demo.sonolite \
			--version $(VERSION) --variants int8 --key $$new/key.pem && \
		cp $$new/demo.sonolite edge_runtime/ && cp $$new/keys/demo.pem edge_runtime/demo_keys/

# Debian packages for a device without a network, one a processor, for Debian 12's Python:
# make deb DEB_PYTHON=3.13 for that of Debian 13. Needs dpkg-deb.
DEB_PYTHON := 3.11
deb: .venv/host
	for board in x86-64 raspberry-pi-5; do \
		$(BIN)/python -m packages.deb $$board $(DEB_PYTHON) $(DIST) || exit 1; done

# The bill of what the device's lock pins, in CycloneDX.
sbom: .venv/host
	@mkdir -p $(DIST)
	$(BIN)/cyclonedx-py requirements requirements/device.txt --pyproject pyproject.toml \
		--mc-type application --output-reproducible -o $(DIST)/sonolite.cdx.json

# Known weaknesses of the versions that the lock files pin: a line for each, and dist/audit.json.
# Needs the network: the advisories are those of PyPI.
audit: .venv/host
	$(BIN)/python -m packages.audit $(DIST)
