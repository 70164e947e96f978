"""Does what makes the installed libraries phone home, lets nothing out, and prints at its very end who tried.

Run as `libraries_at_work.py with|without FOLDER`, with or without the switches, in an environment of its own.
"""

import atexit
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from finetune.guard.offline import WATCHED_EVENTS, is_local
from finetune.guard.switches import offline_environment

# how long an attempt is waited for: one that is expected, and one that is not
PATIENCE_SECONDS = {"without": 20.0, "with": 1.0}
# the library at work, and where it tried to go
FOUND: list[tuple[str, str]] = []
AT_WORK = ["nobody"]


def count(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook of the test's own, so that it is the switches that are measured, and not the guard."""
    if event not in WATCHED_EVENTS:
        return
    address = arguments[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else arguments[1]
    if not is_local(address):
        FOUND.append((AT_WORK[0], str(address)))
        # no error of the network, which libraries would try again
        raise RuntimeError("nothing leaves this test")


def let_work(library: str, work: Callable[[], object]) -> None:
    """Do work, and wait for the attempt of a thread that it has started."""
    AT_WORK[0] = library
    with contextlib.suppress(Exception):
        work()
    end = time.monotonic() + PATIENCE_SECONDS[sys.argv[1]]
    while library not in dict(FOUND) and time.monotonic() < end:
        time.sleep(0.05)


def report() -> None:
    sys.stdout.write(json.dumps(FOUND))


def track(folder: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    with mlflow.start_run():
        mlflow.log_metric("loss", 1.0)
    mlflow.MlflowClient().search_experiments()


def make_trainer(folder: Path) -> None:
    import datasets
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
    from trl import SFTConfig, SFTTrainer

    import finetune

    tokenizer = AutoTokenizer.from_pretrained(Path(finetune.__file__).parent / "embedded" / "base")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, **sizes))
    SFTTrainer(
        model,
        SFTConfig(str(folder / "out"), report_to=[], use_cpu=True, bf16=False),
        train_dataset=datasets.Dataset.from_dict({"text": ["one line"]}),
        processing_class=tokenizer,
    )
    (folder / "trainer").touch()


def main(switches: str, folder: Path) -> None:
    # the last to be registered is the first to run: libraries that report at the end come before
    atexit.register(report)
    sys.addaudithook(count)
    if switches == "with":
        os.environ.update(offline_environment({}))
    import datasets
    import huggingface_hub
    import peft
    import transformers

    let_work("mlflow", lambda: track(folder))
    let_work("huggingface_hub", lambda: huggingface_hub.hf_hub_download("nobody/nothing", "config.json"))
    let_work("transformers", lambda: transformers.AutoConfig.from_pretrained("nobody/nothing"))
    let_work("peft", lambda: peft.PeftConfig.from_pretrained("nobody/nothing"))
    let_work("datasets", lambda: datasets.load_dataset("nobody/nothing"))
    let_work("trl", lambda: make_trainer(folder))
    sys.stdout.write("done\n" if (folder / "trainer").exists() else "no trainer was made\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
