"""QLoRA with TRL and PEFT alone, as one would write it in an afternoon: what bench/train.py compares this project with.

Run by bench/train.py as: python bench/plain_trl.py SETTINGS.json OUT.json
"""

import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """Wall and CPU seconds at the end of each step."""

    def __init__(self):
        self.ends = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append((time.perf_counter(), time.process_time()))


def main(settings, out):
    """Train on the rows of settings, in their order, and write when each step ended."""
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=settings["keep_16bit"],
    )
    model = AutoModelForCausalLM.from_pretrained(
        settings["base"], dtype=torch.bfloat16, quantization_config=nf4, attn_implementation="sdpa"
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(out.parent / "plain"),
            max_steps=settings["steps"],
            per_device_train_batch_size=settings["micro_batch"],
            gradient_accumulation_steps=settings["accumulation"],
            learning_rate=settings["learning_rate"],
            optim=settings["optimizer"],
            activation_checkpointing=settings["checkpointing"],
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            max_length=None,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            save_strategy="no",
            logging_steps=5,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(settings["rows"]),
        processing_class=AutoTokenizer.from_pretrained(settings["base"]),
        peft_config=LoraConfig(r=settings["rank"], lora_alpha=settings["alpha"], target_modules=settings["targets"]),
        callbacks=[clock],
    )
    # TRL holds the factors of a 4-bit base in bfloat16, in which small steps round to nothing
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    trainer.train()
    out.write_text(json.dumps(clock.ends))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
