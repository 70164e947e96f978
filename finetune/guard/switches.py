"""What each library must be told so that it does not phone home, in the spelling that its installed version obeys."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Switch:
    """One environment variable: the package that reads it, the value that works, and what would happen without it."""

    package: str
    variable: str
    value: str
    reason: str


# Libraries read most of these when they are imported, so they are set before. The attempts of the installed versions,
# with and without, are counted in tests/unit/finetune/guard/test_switches.py.
SWITCHES = (
    Switch("huggingface_hub", "HF_HUB_OFFLINE", "1", "look-ups and downloads at the hub; trl and peft ask through it"),
    Switch("huggingface_hub", "HF_HUB_DISABLE_TELEMETRY", "1", "a request for each trainer and download"),
    Switch("huggingface_hub", "DISABLE_TELEMETRY", "1", "the same, by an older name"),
    Switch("huggingface_hub", "HF_HUB_DISABLE_UPDATE_CHECK", "1", "the newest version is asked for"),
    Switch("huggingface_hub", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "1", "a token found on disk is sent with requests"),
    Switch("huggingface_hub", "HF_HUB_DISABLE_XET", "1", "a native client, which no Python hook sees"),
    Switch("transformers", "TRANSFORMERS_OFFLINE", "1", "look-ups at the hub"),
    Switch("transformers", "USE_HUB_KERNELS", "NO", "compiled code is fetched from the hub and run"),
    Switch("transformers", "DISABLE_SAFETENSORS_CONVERSION", "1", "a service is asked to convert a base's weights"),
    Switch("datasets", "HF_DATASETS_OFFLINE", "1", "look-ups at the hub"),
    Switch("datasets", "HF_UPDATE_DOWNLOAD_COUNTS", "0", "a request that counts each loading"),
    Switch("evaluate", "HF_EVALUATE_OFFLINE", "1", "look-ups at the hub"),
    # "1" does not switch MLflow off, and "true" is understood by all that are installed
    Switch("mlflow, huggingface_hub", "DO_NOT_TRACK", "true", "a report of each call"),
    Switch("mlflow", "MLFLOW_DISABLE_TELEMETRY", "true", "a report of each call, and a look-up when it is imported"),
    Switch("fastapi, mlflow", "OTEL_SDK_DISABLED", "true", "traces go to an address in the environment"),
    Switch("fastapi", "FASTAPI_OTEL_AUTO_CONFIGURE", "false", "the same, without being asked for"),
    Switch("trackio", "TRACKIO_DISABLE", "1", "a run is sent to a hosted page"),
    Switch("wandb", "WANDB_MODE", "disabled", "a run is sent to a hosted page"),
    Switch("wandb", "WANDB_ERROR_REPORTING", "false", "errors are reported to its makers"),
    Switch("comet_ml", "COMET_MODE", "disabled", "a run is sent to a hosted page"),
    Switch("ray", "RAY_USAGE_STATS_ENABLED", "0", "a report at each start and every hour"),
    Switch("vllm", "VLLM_NO_USAGE_STATS", "1", "a report at each start and every ten minutes"),
    # its own, since it takes DO_NOT_TRACK for off only where that is 1
    Switch("vllm", "VLLM_DO_NOT_TRACK", "1", "the same"),
    Switch("gradio", "GRADIO_ANALYTICS_ENABLED", "False", "a report at each start"),
    Switch("unsloth", "UNSLOTH_DISABLE_STATISTICS", "1", "a download that counts each start"),
    Switch("axolotl", "AXOLOTL_DO_NOT_TRACK", "1", "a report of each run"),
    Switch("git", "GIT_TERMINAL_PROMPT", "0", "a password is asked for, and the command waits for ever"),
    Switch("tokenizers", "TOKENIZERS_PARALLELISM", "false", "warnings after each fork"),
)

# Credentials of services that nothing here speaks to: what is not there cannot be sent. Keys of chat services are no
# part of it, since a pipeline file may name one for its teacher.
TOKENS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HUGGINGFACE_TOKEN",
    "HF_API_TOKEN",
    "NGC_API_KEY",
    "WANDB_API_KEY",
    "COMET_API_KEY",
    "NEPTUNE_API_TOKEN",
    "DATABRICKS_TOKEN",
)


def offline_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """environment for a process that stays offline: every switch set, whatever it was, and no token."""
    kept = {name: value for name, value in environment.items() if name not in TOKENS}
    return {**kept, **{switch.variable: switch.value for switch in SWITCHES}}
