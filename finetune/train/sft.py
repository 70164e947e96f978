"""Supervised fine-tuning from recipe to adapter, on one path that can be read from top to bottom."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from finetune.adapters.bom import materials_here
from finetune.adapters.export import AdapterOrigin, publish_adapter, write_adapter
from finetune.contracts.adapter import AdapterManifest
from finetune.contracts.dataset import MANIFEST_NAME, REPORT_NAME
from finetune.contracts.errors import RunError
from finetune.contracts.io import disk_errors, sole_writer, write_json
from finetune.contracts.run import Home, RunLayout, RunState
from finetune.model.base_copy import BaseCopies
from finetune.model.loading import LoadedBase, load_base
from finetune.model.lora import attach
from finetune.model.packed import PROOF_ROWS, packing_problem
from finetune.model.quiet import quiet_libraries
from finetune.model.scoring import pad_token, row_losses
from finetune.recipe.resolve import ResolvedRecipe
from finetune.render.dataset import OpenDataset, open_dataset
from finetune.terminal.output import note
from finetune.terminal.progress import Progress
from finetune.tracking.base import RunStatus, Tracker
from finetune.tracking.card import DATA_REPORT, DATASET_FOLDER, run_card
from finetune.tracking.summary import TrainingFigures, run_summary
from finetune.train.checkpoints import Checkpoint, CheckpointStore, Subject, needed_files
from finetune.train.data import (
    HeldoutLoss,
    PreparedRows,
    dataset_folder,
    heldout_loss,
    order_rows,
    prepare_rows,
    reason_text,
    row_lengths,
)
from finetune.train.egress import RunEgress
from finetune.train.forecast import Forecaster
from finetune.train.interrupt import stop_on_signal
from finetune.train.looks import LOOKS_NAME, Looks, choose_weights
from finetune.train.order import RowOrder
from finetune.train.ranks import ALONE, Ranks
from finetune.train.reporting import Reporter
from finetune.train.run_folder import RunFolder, find_run, new_run_id, read_state, run_recipe


def train(
    resolved: ResolvedRecipe,
    home: Home,
    tracker: Tracker,
    *,
    resume: str | None = None,
    run_id: str | None = None,
    ranks: Ranks = ALONE,
) -> RunState:
    """Train an adapter and publish it; returns the finished run's state.

    resume is the id or folder of a run to go on with: its own recipe.resolved.json is used, and resolved is not.
    run_id names a new run, None: new_run_id. Interrupted by Ctrl-C it saves, leaves the run "interrupted" and raises
    KeyboardInterrupt. Of several ranks, each calls this, and the leader alone writes. Raises PlatformErrors for all
    that is wrong with recipe, base, dataset, run or disk.
    """
    if resolved.train.num_processes != ranks.size:
        raise RunError(
            f"The recipe asks for {resolved.train.num_processes} processes, and {ranks.size} would train.",
            "Start it with: finetune train RECIPE",
        )
    if not ranks.leads:
        return _work(_follow(home, tracker, resumed=resume is not None, ranks=ranks))
    if resume is None:
        layout, dataset = _new_layout(resolved, home, run_id or new_run_id(resolved.name))
    else:
        layout, resolved = find_run(home, resume), run_recipe(home, resume)
    busy = RunError(f"Another process trains in {layout.root}.", "Wait for it to end, or stop it with Ctrl-C.")
    with sole_writer(layout.lock, busy):
        if resume is None:
            run = _begin(resolved, layout, dataset)
        else:
            run, dataset = _reopen(layout)
        ranks.share((resolved, layout, run.state))
        return _work(_Job(resolved, home, tracker, run, dataset, resumed=resume is not None, ranks=ranks))


def _follow(home: Home, tracker: Tracker, *, resumed: bool, ranks: Ranks) -> "_Job":
    given: tuple[ResolvedRecipe, RunLayout, RunState] | None = ranks.share(None)
    assert given is not None
    resolved, layout, state = given
    run = RunFolder(layout, state, writes=False)
    return _Job(resolved, home, tracker, run, open_dataset(Path(state.dataset_path)), resumed=resumed, ranks=ranks)


def _work(job: "_Job") -> RunState:
    try:
        job.open_tracker()
        adapter_id = job.work()
    except KeyboardInterrupt:
        job.close("interrupted")
        note(f"Interrupted. Go on with: finetune train --resume {job.run.state.run_id}")
        raise
    except BaseException:
        job.close("failed")
        raise
    job.close("finished", adapter_id=adapter_id)
    return job.run.state


def _new_layout(resolved: ResolvedRecipe, home: Home, run_id: str) -> tuple[RunLayout, OpenDataset]:
    dataset = open_dataset(dataset_folder(resolved))
    layout = RunLayout(home.runs.resolve() / run_id)
    if layout.root.exists():
        raise RunError(f"{layout.root} exists already.", "Start again: a new run gets a new id.")
    with disk_errors(layout.root):
        layout.root.mkdir(parents=True)
    return layout, dataset


def _begin(resolved: ResolvedRecipe, layout: RunLayout, dataset: OpenDataset) -> RunFolder:
    write_json(layout.resolved_recipe, resolved)
    state = RunState(
        run_id=layout.root.name,
        recipe_name=resolved.name,
        base_path=resolved.base.path,
        dataset_path=str(dataset.folder),
        dataset_digest=dataset.manifest.content_digest,
        tracking_run_id=None,
        status="running",
        steps_done=0,
        steps_total=0,
    )
    run = RunFolder(layout, state)
    run.update()
    return run


def _reopen(layout: RunLayout) -> tuple[RunFolder, OpenDataset]:
    state = read_state(layout)
    if state.status == "finished":
        raise RunError(
            f"The run {state.run_id} is finished, with the adapter {state.adapter_id}.",
            f"Look at it: finetune evaluate {state.run_id}",
        )
    dataset = open_dataset(Path(state.dataset_path))
    if dataset.manifest.content_digest != state.dataset_digest:
        raise RunError(
            f"{dataset.folder} has changed since the run {state.run_id} was started: digest "
            f"{dataset.manifest.content_digest[:12]}, not {state.dataset_digest[:12]}.",
            "Start a new run on it: finetune train RECIPE",
        )
    return RunFolder(layout, state), dataset


@dataclass
class _Job:
    """One process' work on one run."""

    resolved: ResolvedRecipe
    home: Home
    tracker: Tracker
    run: RunFolder
    dataset: OpenDataset
    resumed: bool
    ranks: Ranks = ALONE
    egress: RunEgress | None = None

    def open_tracker(self) -> None:
        """Open the record, put the inputs on it, and mark the run as running."""
        state, layout = self.run.state, self.run.layout
        card = run_card(state.run_id, self.resolved)
        report = self.dataset.folder / REPORT_NAME
        if has_report := not self.resumed and report.is_file():
            card = replace(card, tags={**card.tags, "data_report": DATA_REPORT})
        tracking_run_id = self.tracker.start(card, resume=state.tracking_run_id)
        if self.ranks.leads:
            self.egress = RunEgress(layout, self.tracker)
        self.run.update(tracking_run_id=tracking_run_id, status="running")
        if not self.resumed:
            self.tracker.dataset(self.dataset.manifest, self.dataset.folder)
            self.tracker.artifact(layout.resolved_recipe)
            self.tracker.artifact(self.dataset.folder / MANIFEST_NAME, DATASET_FOLDER)
        if has_report:
            self.tracker.artifact(report, DATASET_FOLDER)

    def work(self) -> str | None:
        """Load, render, train; export and register, which the leader does and gives the adapter's id."""
        section = self.resolved.base
        note(f"Run {self.run.state.run_id}: loading {section.path} ({section.quantization})")
        base = load_base(
            Path(section.path),
            quantization=section.quantization,
            embedding_on_host=section.embedding_on_host,
            copies=BaseCopies(self.home.bases, write=self.ranks.leads) if section.cache else None,
            sharded=self._sharded,
        )
        rows = prepare_rows(self.dataset, base.tokenizer, base.family, resolved=self.resolved)
        for row in rows.reasons:
            note(reason_text(row))
        model = attach(base, self.resolved.lora, seed=self.resolved.train.seed)
        order = order_rows(rows.train, self.resolved, packed=self._packs(model, base, rows))
        self.run.update(steps_total=order.num_steps, packed=order.packed)
        looks = self._looks(model, base, rows)
        store = self._store(base, looks)
        figures = self._train(model, base, rows, order=order, looks=looks, store=store)
        chosen = choose_weights(model, looks, store, steps_done=self.run.state.steps_done)
        self.run.update(adapter_step=chosen.step, bits_per_byte=chosen.bits_per_byte)
        if not self.ranks.leads:
            self._export_along(model, base)
            return None
        manifest = self._export(model, base)
        self._describe(base, manifest, figures)
        assert self.egress is not None, "the leader opened the record"
        self.egress.refuse(self.resolved.egress)
        return manifest.adapter_id

    @property
    def _sharded(self) -> bool:
        """Whether each process holds a part of the base, so that every pass takes all of them."""
        return self.resolved.train.sharding == "fsdp2"

    def _packs(self, model: Any, base: LoadedBase, rows: PreparedRows) -> bool:
        """Whether rows share a sequence: as the recipe wants and the proof allows, and as the run began."""
        problem = ""
        if self.resolved.train.packing:
            pairs = [(row.input_ids, row.labels) for row in rows.train[:PROOF_ROWS]]
            found = self.ranks.gather(packing_problem(model, base.family, pairs))
            problem = next(filter(None, found), "")
            if problem:
                section = self.resolved.train
                num_rows = section.micro_batch * section.accumulation
                note(f"Rows do not share sequences: {problem}. A step has {num_rows} rows: see train.accumulation.")
        packed, before = self.resolved.train.packing and not problem, self.run.state.packed
        if before is not None and packed != before:
            raise RunError(
                f"The run {self.run.state.run_id} began with rows {'packed' if before else 'apart'}; here they would"
                f" be {'packed' if packed else 'apart'}, in another order.",
                "Go on where it began, with the same packages; or start a new run: finetune train RECIPE",
            )
        return packed

    def _train(
        self,
        model: Any,
        base: LoadedBase,
        rows: PreparedRows,
        *,
        order: RowOrder,
        looks: Looks,
        store: CheckpointStore,
    ) -> TrainingFigures | None:
        checkpoint, start_at = self._place(store, looks)
        if looks.stopped:
            # an earlier process came to the end of training, but not to that of the export
            self.run.update(steps_done=start_at)
            return None
        with (
            quiet_libraries(),
            stop_on_signal() as stop,
            Progress("Training", order.num_steps, start_at=start_at) as progress,
        ):
            # Importing trl is loud, and it is the last thing that is needed
            from finetune.train.trl_bridge import LoopParts, build_trainer, run_loop

            looks.tell = progress.tell
            forecast = Forecaster(self.resolved, rows.train, order=order, base=base, file=self.run.layout.forecast)
            reporter = Reporter(
                self.tracker,
                progress,
                step_tokens=order.step_tokens(row_lengths(rows.train)),
                on_saved=lambda step: self.run.update(steps_done=step),
                start_at=start_at,
                utilisation=forecast.utilisation,
            )
            trainer = build_trainer(
                model,
                base.tokenizer,
                rows.train,
                order=order,
                section=self.resolved.train,
                device=base.device,
                parts=LoopParts(
                    store=store,
                    watcher=reporter,
                    stop=stop,
                    looks=looks,
                    ranks=self.ranks,
                    # the others would wait for gradients of a pass that they do not run
                    rehearsal=forecast.rehearsal(start_at, tell=progress.tell) if self.ranks.size == 1 else None,
                ),
            )
            steps_done = run_loop(trainer, checkpoint)
        looks.tell = note
        self.run.update(steps_done=steps_done)
        if steps_done < order.num_steps and not looks.stopped:
            raise KeyboardInterrupt
        if not self.ranks.leads:
            return None
        return forecast.compare(reporter.figures(steps_done), self.tracker, start_at=start_at)

    def _place(self, store: CheckpointStore, looks: Looks) -> tuple[Checkpoint | None, int]:
        """The checkpoint to go on from, None for the start, and the steps done; looks become as they were there."""
        checkpoint = self.ranks.share(store.newest() if self.resumed and self.ranks.leads else None)
        start_at = self._start_at(checkpoint)
        if checkpoint is None:
            looks.look(0)
            self.run.update(bits_per_byte_before=looks.before)
        else:
            looks.restore(checkpoint.folder)
        return checkpoint, start_at

    def _store(self, base: LoadedBase, looks: Looks) -> CheckpointStore:
        subject = Subject(
            run_id=self.run.state.run_id,
            base=base.identity.digest,
            dataset=self.run.state.dataset_digest,
            recipe=self.resolved.digest(),
        )
        section, needs = self.resolved.train, needed_files(self.ranks.size)
        return CheckpointStore(
            self.run.layout.checkpoints,
            subject,
            keep=section.keep_checkpoints,
            needs=needs if section.stop_after_worse is None else (*needs, LOOKS_NAME),
            companion=looks.best_step,
            num_processes=self.ranks.size,
        )

    def _start_at(self, checkpoint: Checkpoint | None) -> int:
        if checkpoint is not None:
            note(f"Going on after step {checkpoint.record.step}.")
            return checkpoint.record.step
        if self.resumed:
            note("There is no whole checkpoint: starting again from the first step.")
        return 0

    def _looks(self, model: Any, base: LoadedBase, rows: PreparedRows) -> Looks:
        pairs = [(row.input_ids, row.labels) for row in rows.heldout]
        batch_rows = self.resolved.evaluate.batch_rows

        def score() -> HeldoutLoss:
            """The leader's: cards that sum in another order must not stop at other steps."""
            losses = []
            if self.ranks.leads or self._sharded:
                losses = row_losses(model, pairs, pad_token=pad_token(base.tokenizer), batch_rows=batch_rows)
            return heldout_loss(rows.heldout, self.ranks.share(losses))

        return Looks(score if pairs else None, self.resolved.train, self.tracker)

    def _export(self, model: Any, base: LoadedBase) -> AdapterManifest:
        folder = self.run.layout.adapter
        manifest = write_adapter(model, base, self.resolved.lora, origin=self._origin(), folder=folder)
        publish_adapter(folder, self.home)
        return manifest

    def _export_along(self, model: Any, base: LoadedBase) -> None:
        """Make the passes of the leader's export, where these take all processes; what is written is thrown away."""
        if self._sharded:
            with TemporaryDirectory(prefix="finetune-") as folder:
                write_adapter(model, base, self.resolved.lora, origin=self._origin(), folder=Path(folder) / "adapter")

    def _origin(self) -> AdapterOrigin:
        return AdapterOrigin(
            name=self.resolved.track.adapter_name or self.resolved.name,
            run_id=self.run.state.run_id,
            dataset=self.run.state.dataset_digest,
            recipe=self.resolved.digest(),
            step=self.run.state.adapter_step,
            visibility=tuple(sorted({source.visibility for source in self.dataset.manifest.sources})),
            materials=materials_here(Path(self.run.state.base_path)),
        )

    def _describe(self, base: LoadedBase, manifest: AdapterManifest, figures: TrainingFigures | None) -> None:
        self.tracker.register(manifest, self.run.layout.adapter, self.resolved.track.adapter_name or self.resolved.name)
        text = run_summary(
            self.resolved,
            self.dataset.manifest,
            base_name=base.identity.name,
            run_id=self.run.state.run_id,
            training=figures,
            adapter=manifest,
        )
        self.tracker.describe(text)

    def close(self, status: RunStatus, **changes: object) -> None:
        """Write the state and close the record, in this order: the state decides what may be done next."""
        try:
            with disk_errors(self.run.layout.state):
                self.run.update(status=status, **changes)
            if self.egress is not None:
                self.egress.record()
        finally:
            self.tracker.finish(status)
