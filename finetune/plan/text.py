"""A plan as text for a person."""

from finetune.plan.report import Plan, PlannedTime
from finetune.plan.speed import HIGH_UTILISATION, LOW_UTILISATION
from finetune.terminal.output import table


def plan_text(plan: Plan, recipe_file: str) -> str:
    """The whole plan: a table of memory with a column per phase, time, and what to change. recipe_file is as typed."""
    card = plan.card
    head = (
        f"{plan.recipe} on {card.name}: {card.usable_gib:.2f} of {card.memory_mib / 1024:.2f} GiB usable. "
        f"{plan.base.parameters / 1e9:.3f} billion parameters, {plan.base.adapter_parameters / 1e6:.1f} million of an "
        "adapter."
    )
    parts = [head, "Every figure is calculated, none is measured.", "", _memory(plan), "", *_verdict(plan, recipe_file)]
    parts += ["", *_time(plan.time), *_host(plan), *(f"Note: {note}" for note in plan.notes)]
    return "\n".join(parts)


def _memory(plan: Plan) -> str:
    # in the order of the fullest phase, so that the columns read alike
    ordered = sorted(plan.phases, key=lambda phase: -len(phase.items))
    names = list(dict.fromkeys(item.name for phase in ordered for item in phase.items))
    sizes = [{item.name: item.gib for item in phase.items} for phase in plan.phases]
    rows = [(name, *(f"{size[name]:.2f}" if name in size else "" for size in sizes)) for name in names]
    rows.append(("TOTAL", *(f"{phase.peak_gib:.2f}" for phase in plan.phases)))
    return table(rows, header=("GiB, calculated", *(phase.name for phase in plan.phases))) + "\n" + _fits(plan)


def _fits(plan: Plan) -> str:
    wrong = [phase for phase in plan.phases if not phase.fits]
    if not wrong:
        return "  Each phase fits."
    over = ", ".join(f"{phase.name} by {phase.peak_gib - plan.card.usable_gib:.2f}" for phase in wrong)
    return f"  Too large: {over} GiB."


def _verdict(plan: Plan, recipe_file: str) -> list[str]:
    longest = f"The longest row that fits as it is: {plan.longest_row_that_fits:,} tokens (calculated)."
    if plan.fits:
        return [f"It fits. {longest}"]
    if plan.changes:
        rows = [
            (" ".join(change.set), f"{change.saves_gib:.2f}", f"{change.peak_gib:.2f}", change.cost)
            for change in plan.changes
        ]
        sets = " ".join(f"--set {value}" for change in plan.changes for value in change.set)
        lines = ["It does not fit. These changes, cheapest first, make it fit together:"]
        lines.append(table(rows, header=("change", "saves GiB", "then GiB", "cost")))
        return [*lines, f"Type: finetune plan {recipe_file} --card {plan.card.name} {sets}"]
    return ["It does not fit, and no change of the recipe makes it fit.", *_carriers(plan)]


def _carriers(plan: Plan) -> list[str]:
    four, sixteen = (size * 2**30 / 1e9 for size in (plan.base.gib_4bit, plan.base.gib_16bit))
    alone = f"The base alone takes {four:,.0f} GB in 4 bit and {sixteen:,.0f} GB in 16 bit (calculated)."
    if not plan.carriers:
        return [alone, "No 16 cards of a kind that is known here hold it."]
    labels = {"nf4": "4 bit, the recipe as it is", "none": "16 bit, shared"}
    rows = [(f"{row.cards} x {row.name}", labels[row.quantization]) for row in plan.carriers]
    return [
        alone,
        "What carries it (calculated):",
        table(rows, header=("cards", "base")),
        "Over several cards only a base in 16 bit is shared: 4-bit weights lose bits on the way (bitsandbytes 1945).",
    ]


def _time(time: PlannedTime) -> list[str]:
    lines = [f"{time.gflops_per_token:.1f} GFLOP per token at rows of {time.row_tokens:,} tokens (calculated)."]
    if time.tokens_per_second is None or time.hours_per_million_tokens is None:
        return lines
    slow, fast = time.tokens_per_second
    long, short = time.hours_per_million_tokens
    lines.append(
        f"{slow:,.0f} to {fast:,.0f} tokens/s at {LOW_UTILISATION * 100:.0f} to {HIGH_UTILISATION * 100:.0f} % of the "
        "card's peak (calculated): "
        f"{short:.2f} to {long:.2f} hours per million tokens."
    )
    if time.hours is not None:
        lines.append(f"The recipe's {time.num_tokens:,} tokens: {time.hours[1]:.1f} to {time.hours[0]:.1f} hours.")
    return lines


def _host(plan: Plan) -> list[str]:
    lines = [f"A checkpoint takes {plan.checkpoint_gib:.2f} GiB of disk (calculated)."]
    if plan.host_memory_gib:
        lines.append(f"Host memory, pinned: {plan.host_memory_gib:.2f} GiB (calculated).")
    return lines
