"""What a recipe would do, counted without loading a weight."""

from pathlib import Path

from finetune.contracts.dataset import Contract, ReasonCount
from finetune.contracts.run import Home
from finetune.families.tokens import Unsupported
from finetune.recipe.resolve import ResolvedRecipe
from finetune.render.dataset import open_dataset
from finetune.terminal.output import table
from finetune.train.data import (
    dataset_folder,
    num_weighted_rows,
    order_rows,
    prepare_rows,
    reason_text,
    row_lengths,
)
from finetune.train.looks import num_looks
from finetune.train.order import ends_by


class DryRun(Contract):
    """What a recipe would do. counts are rows by task; num_rows and num_tokens are what training would read.

    A row that is read twice counts twice; padding is left out. num_epochs are passes over the rows by their weights;
    ends_by is the value of the recipe that ends training, num_looks the looks at the held-out sample if all steps are
    taken.
    """

    counts: dict[str, int]
    num_heldout: int
    num_rows: int
    num_tokens: int
    num_loss_tokens: int
    num_steps: int
    num_epochs: float
    ends_by: str
    num_looks: int
    num_trainable: int
    reasons: tuple[ReasonCount, ...]

    def text(self) -> str:
        """The forecast as a table, then what would be cropped, split or dropped."""
        rows = [(f"rows to learn from, {task}", f"{count:,}") for task, count in self.counts.items()]
        rows += [
            ("rows held out, in the sample", f"{self.num_heldout:,}, looked at {self.num_looks:,} times"),
            ("training ends by", f"{self.ends_by}, {self.num_epochs:.3g} passes over the rows"),
            ("steps", f"{self.num_steps:,}"),
            ("tokens read", f"{self.num_tokens:,}"),
            ("tokens learned", f"{self.num_loss_tokens:,}"),
            ("trainable parameters", f"{self.num_trainable:,}"),
        ]
        return "\n".join([table(rows), *(reason_text(row) for row in self.reasons)])


class SweepForecast(Contract):
    """What each run of a sweep would do, beside its settings."""

    settings: tuple[dict[str, str], ...]
    runs: tuple[DryRun, ...]

    def text(self) -> str:
        """A table of the runs, then what the first of them says in full."""
        keys = list(self.settings[0])
        rows = [
            (*(settings[key] for key in keys), f"{run.num_steps:,}", f"{run.num_tokens:,}", f"{run.num_trainable:,}")
            for settings, run in zip(self.settings, self.runs, strict=True)
        ]
        total = sum(run.num_tokens for run in self.runs)
        head = table(rows, header=(*keys, "steps", "tokens read", "trainable parameters"))
        return f"{head}\n  {len(rows)} runs, {total:,} tokens read in all. The first of them:\n{self.runs[0].text()}"


def dry_run(resolved: ResolvedRecipe, *, home: Home) -> DryRun:
    """Check recipe, dataset and base, render all rows, and count; no weights are loaded and home is not written to."""
    from finetune.families.registry import family_for
    from finetune.model.loading import load_tokenizer
    from finetune.model.lora import count_trainable

    dataset = open_dataset(dataset_folder(resolved))
    base = Path(resolved.base.path)
    family = family_for(resolved.base.model_type)
    tokenizer = load_tokenizer(base)
    family = family.for_tokenizer(tokenizer)
    num_trainable = count_trainable(base, resolved.lora)
    rows = prepare_rows(dataset, tokenizer, family, resolved=resolved)
    packed = resolved.train.packing and not isinstance(family.packing, Unsupported)
    order = order_rows(rows.train, resolved, packed=packed)
    return DryRun(
        counts=rows.counts(),
        num_heldout=len(rows.heldout),
        num_rows=len(order.indices),
        num_tokens=sum(order.step_tokens(row_lengths(rows.train))),
        num_loss_tokens=sum(rows.train[index].num_loss_tokens for index in order.indices),
        num_steps=order.num_steps,
        num_epochs=len(order.indices) / num_weighted_rows(rows.train, resolved.data.tasks),
        ends_by=ends_by(resolved.train),
        num_looks=num_looks(resolved.train, order.num_steps) if rows.heldout else 0,
        num_trainable=num_trainable,
        reasons=rows.reasons,
    )
