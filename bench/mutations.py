"""Is each protection one that a test would miss? Takes one away at a time and runs the test that must then fail.

Works in a copy of the tree, so nothing here changes. Each line of MUTATIONS is a protection of docs/reliability.md.
Run: .venv/bin/python bench/mutations.py [--only WORD]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNIT = "tests/unit/finetune"


@dataclass(frozen=True)
class Mutation:
    """old stands once in file; with new in its place, test must fail."""

    protection: str
    file: str
    old: str
    new: str
    test: str


MUTATIONS = (
    Mutation(
        "a file is synced before it gets its name",
        "finetune/contracts/io.py",
        "                os.fsync(stream.fileno())\n            os.chmod(name, mode)",
        "            os.chmod(name, mode)",
        f"{UNIT}/contracts/test_durability.py::test_a_file_is_synced_before_its_name_and_its_folder_after",
    ),
    Mutation(
        "a folder is synced whole before it gets its name",
        "finetune/contracts/io.py",
        "                    sync_folder(entry)\n",
        "",
        f"{UNIT}/contracts/test_durability.py::test_a_folder_is_synced_whole_before_its_name_and_its_parent_after",
    ),
    Mutation(
        "a name is synced after a rename",
        "finetune/contracts/io.py",
        "            raise\n        sync_folder(path.parent)",
        "            raise",
        f"{UNIT}/contracts/test_durability.py::test_a_file_is_synced_before_its_name_and_its_folder_after",
    ),
    Mutation(
        "a file is written aside",
        "finetune/contracts/io.py",
        'tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")',
        "(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), str(path))",
        f"{UNIT}/contracts/test_io.py::test_a_write_that_fails_leaves_the_old_content_and_no_scrap",
    ),
    Mutation(
        "a full disk is named",
        "finetune/contracts/io.py",
        "if error.errno in (errno.ENOSPC, errno.EDQUOT):",
        "if error.errno == errno.EDQUOT:",
        f"{UNIT}/contracts/test_io.py::test_a_write_that_fails_leaves_the_old_content_and_no_scrap",
    ),
    Mutation(
        "a checkpoint's files are compared with their digests",
        "finetune/train/checkpoints.py",
        "if path.stat().st_size != entry.bytes or digest_file(path) != entry.sha256:",
        "if path.stat().st_size != entry.bytes:",
        f"{UNIT}/train/test_checkpoints.py::test_a_damaged_one_falls_back_with_a_note",
    ),
    Mutation(
        "a checkpoint's record is sealed",
        "finetune/train/checkpoints.py",
        "if record != sealed(record) or folder.name",
        "if folder.name",
        f"{UNIT}/train/test_checkpoints.py::test_a_bit_flipped_anywhere_in_a_record_is_seen",
    ),
    Mutation(
        "a checkpoint without a file that is needed is passed over",
        "finetune/train/checkpoints.py",
        "        for name in sorted(self._needs - {entry.name for entry in record.files}):\n"
        '            raise DamagedCheckpoint(f"{folder} holds no {name}.", HINT)\n',
        "",
        f"{UNIT}/train/test_checkpoints.py::test_one_without_a_file_that_is_needed_is_passed_over",
    ),
    Mutation(
        "a checkpoint of another run is refused",
        "finetune/train/checkpoints.py",
        "            if found != expected:\n",
        "            if False:\n",
        f"{UNIT}/train/test_checkpoints.py::test_one_of_another_run_is_refused",
    ),
    Mutation(
        "room for a checkpoint is seen before it is written",
        "finetune/train/checkpoints.py",
        "        if free < needed:",
        "        if False:",
        f"{UNIT}/train/test_checkpoints.py::test_a_full_disk_is_seen_before_anything_is_written",
    ),
    Mutation(
        "one process trains a run",
        "finetune/contracts/io.py",
        "            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        except OSError as cause:",
        "            pass\n        except OSError as cause:",
        f"{UNIT}/train/test_sft.py::test_a_second_process_is_kept_out_of_a_run",
    ),
    Mutation(
        "a loss that is not finite ends the run",
        "finetune/train/trl_bridge.py",
        "        if not math.isfinite(loss):\n",
        "        if False:\n",
        f"{UNIT}/train/test_sft.py::test_a_loss_that_is_not_finite_ends_the_run",
    ),
    Mutation(
        "a second Ctrl-C stops at once",
        "finetune/train/interrupt.py",
        "            raise KeyboardInterrupt\n",
        "            return\n",
        f"{UNIT}/train/test_interrupt.py::test_the_first_asks_the_second_raises",
    ),
    Mutation(
        "a journal's torn last line is dropped",
        "finetune/tracking/jsonl.py",
        '                self._stream.truncate(content.rfind(b"\\n") + 1)\n',
        "",
        f"{UNIT}/tracking/test_jsonl.py::test_a_line_cut_by_a_crash_is_dropped_and_numbers_go_on",
    ),
    Mutation(
        "a journal has one writer",
        "finetune/tracking/jsonl.py",
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "        pass",
        f"{UNIT}/tracking/test_jsonl.py::test_two_processes_cannot_write_one_run",
    ),
    Mutation(
        "a record of releases has one writer",
        "finetune/contracts/chain.py",
        "            fcntl.flock(lock, fcntl.LOCK_EX)\n",
        "",
        f"{UNIT}/contracts/test_chain.py::test_a_second_writer_waits_for_the_first",
    ),
    Mutation(
        "an altered record of releases is refused",
        "finetune/contracts/chain.py",
        "whole, torn = self._parts()\n            found = OpenChain(self.path, list(_checked(self.path, whole)))",
        "whole, torn = self._parts()\n            found = OpenChain(self.path, [])",
        f"{UNIT}/contracts/test_chain.py::test_a_line_that_is_wrong_is_named_and_nothing_is_appended",
    ),
    Mutation(
        "an adapter's files are compared with their digests",
        "finetune/contracts/adapter_files.py",
        "        if digest_file(path) != entry.sha256:",
        "        if False:",
        f"{UNIT}/contracts/test_adapter_files.py::test_one_flipped_bit_is_found",
    ),
    Mutation(
        "an adapter's manifest is sealed",
        "finetune/contracts/adapter_files.py",
        "    check_seal(manifest, path, error=AdapterError, hint=HINT)\n",
        "",
        f"{UNIT}/contracts/test_adapter_files.py::test_any_flipped_bit_of_the_manifest_is_found_or_means_the_same",
    ),
    Mutation(
        "what an adapter's manifest does not name is refused",
        "finetune/contracts/adapter_files.py",
        "    for name in sorted(present - set(expected)):",
        "    for name in ():",
        f"{UNIT}/contracts/test_adapter_files.py::test_a_missing_and_an_extra_file_are_named",
    ),
    Mutation(
        "what is served is checked again as it was copied",
        "serving/adapters/copies.py",
        "            _check(scratch, folder, manifest=manifest, check=check)\n",
        "",
        "tests/unit/serving/adapters/test_copies.py::"
        "test_a_copy_that_is_refused_is_not_kept_and_is_told_by_the_name_of_its_origin",
    ),
    Mutation(
        "a copy that a server uses is not removed",
        "serving/adapters/copies.py",
        "        fcntl.flock(self._handle, fcntl.LOCK_SH)\n",
        "",
        "tests/unit/serving/adapters/test_copies.py::test_two_servers_that_use_one_copy_do_not_remove_it_from_each_other",
    ),
    Mutation(
        "an adapter that changes nothing is not served",
        "serving/adapters/probe.py",
        "    if effect <= EFFECT_FLOOR:",
        "    if False:",
        "tests/unit/serving/adapters/test_probe.py::test_no_effect_is_refused",
    ),
    Mutation(
        "one build of a dataset at a time",
        "data_pipelines/engine/work.py",
        "    with sole_writer(work.folder / LOCK_NAME, busy):",
        "    if True:",
        "tests/unit/data_pipelines/engine/test_work.py::test_a_second_build_of_a_dataset_is_refused_and_another_is_not",
    ),
    Mutation(
        "an interrupted swap of a dataset is put back",
        "data_pipelines/engine/work.py",
        '            os.rename(old / "was", out)\n',
        "            pass\n",
        "tests/unit/data_pipelines/engine/test_work.py::test_a_dataset_whose_swap_was_interrupted_is_put_back",
    ),
    Mutation(
        "a text that could not be scanned is left out",
        "data_pipelines/redact/redactor.py",
        '        raise ScanFailed(f"the scan for secrets failed: {type(cause).__name__}") from cause',
        "        return []",
        "tests/unit/data_pipelines/redact/test_redactor.py::test_a_scan_that_goes_wrong_gives_no_text",
    ),
    Mutation(
        "what a repository puts in place of an object is not read",
        "data_pipelines/sources/process.py",
        '        "GIT_NO_REPLACE_OBJECTS": "1",\n',
        "",
        "tests/unit/data_pipelines/sources/test_git.py::test_replace_objects_and_grafts_do_not_change_what_is_read",
    ),
    Mutation(
        "an altered line of measurements is measured again",
        "finetune/evaluate/journal.py",
        "    if not text or digest_text(text)[:LINE_DIGEST_CHARS] != digest:",
        "    if not text:",
        f"{UNIT}/evaluate/test_journal.py::test_a_line_that_was_cut_or_altered_is_measured_again",
    ),
    Mutation(
        "a store is made by one process at a time",
        "finetune/tracking/home_store.py",
        "        fcntl.flock(stream.fileno(), fcntl.LOCK_EX)\n",
        "",
        f"{UNIT}/tracking/test_mlflow.py::test_two_that_begin_a_home_at_once_make_one_store",
    ),
)


def main() -> None:
    """Print a table of the protections; exit code 1 when a test does not miss one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="protections or files with this word in them")
    only = parser.parse_args().only
    chosen = [one for one in MUTATIONS if only in f"{one.protection} {one.file}"]
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "tree"
        shutil.copytree(
            ROOT, copy, ignore=shutil.ignore_patterns(".git", ".venv", ".finetune", "__pycache__", ".*_cache")
        )
        print("| protection | test | as it is | without |\n|---|---|---|---|")
        missed = [one for one in chosen if not fails_without(one, copy)]
    print(f"\n{len(chosen) - len(missed)} of {len(chosen)} protections are missed by their test when they are gone")
    sys.exit(1 if missed else 0)


def fails_without(mutation: Mutation, copy: Path) -> bool:
    """Whether the test passes with the protection and fails without it; prints its row."""
    path = copy / mutation.file
    text = path.read_text()
    assert text.count(mutation.old) == 1, f"{mutation.protection}: stands {text.count(mutation.old)} times"
    before = passes(mutation.test, copy)
    path.write_text(text.replace(mutation.old, mutation.new))
    after = passes(mutation.test, copy)
    path.write_text(text)
    name = mutation.test.rpartition("::test_")[2].replace("_", " ")
    words = {True: "passes", False: "fails"}
    print(f"| {mutation.protection} | {name} | {words[before]} | {words[after]} |", flush=True)
    return before and not after


def passes(test: str, copy: Path) -> bool:
    """Whether the test passes in copy; a test that is not there stops everything."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    # compiled files are told apart by whole seconds
    environment = {
        "PYTHONPATH": str(copy),
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=False)
    assert done.returncode in (0, 1), done.stdout.decode()[-2000:]
    return done.returncode == 0


if __name__ == "__main__":
    main()
