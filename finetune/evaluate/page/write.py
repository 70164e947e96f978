"""write_page: the folder of an evaluation in, report.html in it."""

from pathlib import Path

from finetune.contracts.evaluation import PAGE_NAME
from finetune.contracts.io import write_text
from finetune.evaluate.page.page import Gate, render
from finetune.evaluate.report import load_evaluation


def write_page(folder: Path, *, gate: Gate | None = None) -> Path:
    """Write folder/report.html from report.json and the tables beside it, replacing one that is there.

    gate is what the gate said of this report, None if it was not asked. Equal folders give equal bytes. Raises RunError
    for a folder that holds no report, or a damaged or altered one, MachineError when the disk refuses.
    """
    found = load_evaluation(folder)
    target = folder / PAGE_NAME
    write_text(target, render(found.report, found.rows, found.answers, gate=gate))
    return target
