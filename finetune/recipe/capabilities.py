"""What the user of a recipe must know of its family: reservations and refusals, each with its reason."""

from collections.abc import Iterator

from finetune.families.base import Family
from finetune.families.registry import family_for
from finetune.families.tokens import Capability, Experimental, Supported
from finetune.recipe.resolve import ResolvedRecipe


def capability_text(capability: Capability) -> str:
    """A capability in words: "yes", "experimental: ..." or "no: ..."."""
    if isinstance(capability, Supported):
        return "yes"
    if isinstance(capability, Experimental):
        return f"experimental: {capability.note}"
    return f"no: {capability.reason}"


def infill_texts(family: Family) -> tuple[str, ...]:
    """Whether bases of a family fill in, for each form of tokens; the form is named where there are several."""
    forms = (family.tokens, *family.other_tokens)
    texts = (capability_text(form.infill) for form in forms)
    return tuple(f"{form.name}: {text}" if len(forms) > 1 else text for form, text in zip(forms, texts, strict=True))


def recipe_notes(resolved: ResolvedRecipe) -> tuple[str, ...]:
    """One line for each reservation that this recipe meets; none where all it asks for is supported without one."""
    return tuple(_notes(family_for(resolved.base.model_type), resolved))


def _notes(family: Family, resolved: ResolvedRecipe) -> Iterator[str]:
    tasks = resolved.data.tasks
    forms = (family.tokens, *family.other_tokens)
    if (tasks.infill or tasks.repo_infill) and not all(isinstance(form.infill, Supported) for form in forms):
        yield f"infill on {family.name}: {'; '.join(infill_texts(family))}"
    if family.mixture is not None and not isinstance(family.mixture, Supported):
        yield f"experts of {family.name}: {capability_text(family.mixture)}"
    for kind, refusal in family.untrained.items():
        yield f"{kind} layers of {family.name} carry no adapter: {refusal.reason}"
