# make demo: the whole workflow on a simulated data set, in minutes on two cores.
# make own DATA=ratings.csv [NAME=shop] [CONFIG=more.yaml]: which loss to use on your own data.
# make test: everything that CI runs.
# make faults: what the workflow survives.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
ANY := '{"run": "any", "datasets": [{"name": "any", "simulate": {}}], "device": "cpu"}'
HASHED := --quiet --no-deps --require-hashes
# Snakemake looks papermill up on PATH.
RUN := . $(VENV)/bin/activate &&

.PHONY: demo own own-data test faults install lint lock audit docs bench bench-peers

demo: $(INSTALLED)
	@$(RUN) snakemake --cores all --configfile config/demo.yaml

# The configurations, and what `recloss own` writes of the data.
LAID = config/own.yaml $(CONFIG) "$$file"
own: own-data $(INSTALLED)
	@$(RUN) file=$$(recloss own "$(DATA)" $(if $(NAME),--name "$(NAME)") $(if $(CONFIG),--config $(CONFIG))) && \
	  snakemake --cores all --configfile $(LAID) -- tune && \
	  snakemake --cores all --configfile $(LAID) results/$$(basename "$$file" .yaml)/tuned.yaml

own-data:
	@test -n "$(DATA)" || { echo "error: no data; say whose, as in make own DATA=path/to/ratings.csv" >&2; exit 1; }
	@test -e "$(DATA)" || { echo "error: $(DATA): no such file or folder; check DATA" >&2; exit 1; }

test: lint $(VENV)/.triton
	$(RUN) pytest -n auto --dist worksteal

# Every fault of docs/reliability.md, one after the other, and its table anew; as root, for disks of their own.
FAULTS := tests/faults/results.csv
faults: $(INSTALLED)
	rm -f $(FAULTS)
	$(RUN) RECLOSS_FAULTS=$(CURDIR)/$(FAULTS) pytest -m '' tests/faults
	$(RUN) python tests/faults/page.py

# torch's CUDA builds bring Triton along; the tests run its interpreter and compiler without a GPU.
$(VENV)/.triton: $(INSTALLED)
	$(RUN) python -c 'import triton' 2>/dev/null || [ "$$(uname)" != Linux ] || pip install --quiet triton==3.9.0
	@touch $@

bench: $(INSTALLED)
	$(RUN) snakemake --cores all bench

# RecBole needs packages too old for us: envs/peers.txt.
PEERS := .venv-peers
bench-peers: bench $(PEERS)/.installed
	$(PEERS)/bin/python benchmarks/peers.py --data resources/gowalla --out results/bench/peers.json
	$(RUN) snakemake --cores all bench

$(PEERS)/.installed: envs/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --requirement envs/peers.txt
	$(PEERS)/bin/pip install --quiet --no-deps recbole==1.2.1
	@touch $@

lint: $(INSTALLED)
	$(RUN) ruff check . && ruff format --check . && snakefmt --check . && snakemake --lint

install: $(INSTALLED)

$(INSTALLED): envs/requirements.lock envs/gpu.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) --version); give a Python from 3.11 to 3.13, as in: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install $(HASHED) --requirement envs/requirements.lock
	@# PyTorch's CUDA build, as it comes on Linux, loads libraries that are packages of their own.
	@$(VENV)/bin/pip show torch | grep -q '^Version: .*+cpu' || $(VENV)/bin/pip install $(HASHED) --requirement envs/gpu.lock
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@# What the plan measures it compiles first, for which every run after it need not wait.
	$(VENV)/bin/recloss plan $(ANY) > /dev/null
	@touch $@

# Newest versions that fit pyproject.toml.
lock: $(VENV)-tools
	PATH=$(VENV)-tools/bin:$$PATH python envs/lock.py --upgrade

# Known weaknesses of what is locked, as pip-audit finds them.
audit: $(VENV)-tools
	$(VENV)-tools/bin/pip-audit --require-hashes --disable-pip --requirement envs/requirements.lock
	$(VENV)-tools/bin/pip-audit --require-hashes --disable-pip --requirement envs/gpu.lock

$(VENV)-tools:
	$(PYTHON) -m venv $@
	$@/bin/pip install --quiet 'uv>=0.9' 'pip-audit>=2.7'

docs: $(INSTALLED)
	$(RUN) recloss reference docs/configuration.md
	$(RUN) recloss findings results/published $$(grep -l '<!-- findings: ' README.md docs/*.md)
