"""finetune runs: what was run, and MLflow's own pages over it."""

from typing import Annotated

import typer

from finetune.terminal.options import DEFAULT_HOME, HomeFolder, Json

app = typer.Typer(help="Browse runs.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list", epilog="Examples: `finetune runs list`, `finetune runs list --home /srv/finetune --json`.")
def list_(home: HomeFolder = DEFAULT_HOME, json: Json = False) -> None:
    """List the runs of a home, newest first; what journals still hold is recorded first."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from finetune.contracts.run import Home
    from finetune.terminal.output import emit, table
    from finetune.tracking.runs import list_runs

    runs = list_runs(Home(home.absolute()))
    rows = [
        (
            run.run_id,
            run.status,
            datetime.fromtimestamp(run.started_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M"),
            _figure(run.loss),
            _figure(run.bits_per_byte_base),
            _figure(run.bits_per_byte_adapter),
            run.verdict or "",
            run.adapter_id or "",
        )
        for run in runs
    ]
    header = ("run", "status", "started", "train loss", "bits/byte base", "adapter", "verdict", "adapter id")
    text = table(rows, header=header) if rows else f"No runs in {home}. Start one: finetune train RECIPE"
    emit({"runs": [asdict(run) for run in runs]}, as_json=json, text=text)


@app.command("ui", epilog="Examples: `finetune runs ui`, `finetune runs ui --port 5001 --home /srv/finetune`.")
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    home: HomeFolder = DEFAULT_HOME,
) -> None:
    """Open MLflow's pages over the local store, on this machine only, until Ctrl-C."""
    from finetune.contracts.run import Home
    from finetune.terminal.output import note
    from finetune.tracking.ui import serve_ui

    place = Home(home.absolute())
    code = serve_ui(place, port, ready=lambda address: note(f"MLflow is at {address} until Ctrl-C."))
    raise typer.Exit(code)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
