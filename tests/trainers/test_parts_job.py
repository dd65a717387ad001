"""Tests of the job that trains in parts."""

import json

import pytest
from absl import app
from jobs import copy_of, parse, run

from tfp_distill import load_flow
from tfp_distill.evaluation.results import read_results_json
from tfp_distill.runs.fitting.training_record import read_record
from tfp_distill.runs.partitions import part_history
from tfp_distill.runs.recipe import METHODS
from tfp_distill.runs.recipe.partition_names import PartitionName, split_model_name
from tfp_distill.runs.run_directory import open_run
from tfp_distill.runs.stages import train_student, train_teacher
from trainers import sample, train_parts

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]

TINY = (
    "--data=digits",
    *("--student_levels=1", "--student_depth=3", "--student_width=4"),
    *("--student_training_steps=6", "--report_steps=2", "--batch_size=16"),
)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """The run directory of a whole job without a teacher, and what it printed."""
    run_dir = tmp_path_factory.mktemp("runs") / "parts"
    return run_dir, run(train_parts, run_dir, *TINY)


def test_parts_are_reported_beside_end_to_end(job):
    run_dir, output = job
    results, _ = read_results_json(run_dir / "results.json")
    assert [result.name for result in results] == ["student", "student_across_blocks_2"]
    assert all(result.training_steps == 6 and result.skipped_steps == 0 for result in results)
    assert "student_across_blocks_2:\npart  steps" in output
    history = read_record(run_dir / "student_across_blocks_2").history
    assert [row["parts"] for row in history] == [[0], [1], None]
    assert all("parts" not in row for row in read_record(run_dir / "student").history)
    report = (run_dir / "report.html").read_text()
    for text in ("In parts, beside end to end", "Phases and parts", "across_blocks_2"):
        assert text in report
    assert "student_across_blocks_2  part 0" in output
    assert not (run_dir / "teacher").exists()
    assert (run_dir / "saved_model").is_dir()


def test_a_rerun_does_only_what_is_missing(job, tmp_path):
    run_dir = copy_of(job[0], tmp_path)
    output = run(train_parts, run_dir, "--partitions=across_blocks_2,at_steps_1")
    assert "student_across_blocks_2: already trained" in output
    assert "student_at_steps_1: step 6 of 6" in output
    names = [result.name for result in read_results_json(run_dir / "results.json")[0]]
    assert names == ["student", "student_across_blocks_2", "student_at_steps_1"]


def test_the_boundaries_are_kept(job):
    directory = job[0] / "student_across_blocks_2"
    ends = json.loads((directory / "partition.json").read_text())["ends"]
    partition = load_flow(directory / "flow.keras").partition
    assert ends == list(partition.ends)


def test_students_in_parts_are_models_as_all_others(job, tmp_path):
    path = tmp_path / "samples.npz"
    arguments = ("--model=student_across_blocks_2", "--num_samples=3", f"--output={path}")
    assert run(sample, job[0], *arguments) == f"3 samples of student_across_blocks_2: {path}\n"


def test_a_cache_is_filled_once_a_part_or_after_some_epochs(tmp_path):
    seen = []
    for name, epochs in {"once": 0, "again": 1}.items():
        flags = (
            *("--part_mode=sequential", "--partitions=at_steps_1", "--end_to_end_fraction=0"),
            *("--student_training_steps=8", "--prefix_cache_gib=0.1"),
            f"--prefix_cache_epochs={epochs}",
        )
        job = open_run(
            parse(train_parts.define_flags, f"--run_dir={tmp_path / name}", *TINY, *flags)
        )
        train_student(job, "student", "at_steps_1")
        history = read_record(tmp_path / name / "student_at_steps_1").history
        assert [row["parts"] for row in history] == [[0], [0], [1], [1]]
        seen.append([row["val_bits_per_dim"] for row in history])
    # Images get new noise when the cache is filled again, for the second epoch of part 1.
    assert seen[0][:3] == seen[1][:3]
    assert seen[0][3] != seen[1][3]


def test_a_cache_that_is_too_small_is_refused_before_any_work(tmp_path):
    flags = ("--part_mode=sequential", "--partitions=at_steps_1", "--prefix_cache_gib=1e-6")
    message = "`prefix_cache_gib` must be at least 0.000348 for 1,437 rows .* at_steps_1 .* 1e-06"
    with pytest.raises(app.UsageError, match=message):
        run(train_parts, tmp_path / "run", *TINY, *flags)
    assert not (tmp_path / "run").exists()


DISTILLED = (
    *("--student_levels=2", "--student_depth=1"),
    *("--teacher_levels=2", "--teacher_depth=1", "--teacher_width=4"),
    *("--teacher_training_steps=2", "--students=ilkd", "--partitions=by_block_2"),
    "--fade_out=0",
)
WAYS = {
    "alternating": (),
    "cached": ("--part_mode=sequential", "--prefix_cache_gib=0.1"),
    "devices": ("--part_mode=simultaneous", "--devices=CPU:0,CPU:1"),
}


@pytest.mark.parametrize("way", WAYS)
def test_parts_are_distilled(way, tmp_path):
    flags = (f"--run_dir={tmp_path / 'run'}", *TINY, *DISTILLED, *WAYS[way])
    job = open_run(parse(train_parts.define_flags, *flags))
    train_teacher(job)
    train_student(job, "ilkd", "by_block_2")
    directory = tmp_path / "run" / "ilkd_by_block_2"
    rows, name = read_record(directory).history, "intermediate_latent_loss"
    assert f"part_0_{name}" in rows[0]
    assert f"part_1_{name}" in rows[0 if way == "devices" else 1]
    # To part 1 go all 64 dimensions, the teacher's latents, and the likelihood so far.
    assert json.loads((directory / "partition.json").read_text())["handed"] == [129]
    history = part_history(job.load_flow("ilkd_by_block_2"), read_record(directory), directory, 16)
    assert history.boundary_bytes == (4 * 16 * 129,)


def test_a_cache_has_room_for_what_a_teacher_says_or_is_refused(tmp_path):
    flags = (*WAYS["cached"][:1], "--prefix_cache_gib=0.0003")
    # 1,437 rows of 129 numbers of 4 bytes.
    with pytest.raises(app.UsageError, match="`prefix_cache_gib` must be at least 0.000691"):
        run(train_parts, tmp_path / "run", *TINY, *DISTILLED, *flags)
    assert not (tmp_path / "run").exists()


def test_devices_that_do_not_exist_are_refused_before_any_work(tmp_path):
    flags = ("--part_mode=simultaneous", "--partitions=at_steps_1", "--devices=CPU:0,TPU:7")
    with pytest.raises(app.UsageError, match="`devices` must be some of .*CPU:0, .*got TPU:7"):
        run(train_parts, tmp_path / "run", *TINY, *flags)
    assert not (tmp_path / "run").exists()


def test_parts_that_the_flow_does_not_have_are_refused_before_any_work(tmp_path):
    for partition, message in (
        ("by_block_2", "`num_parts` must be an integer from 1 to 1"),
        ("at_steps_3", "`boundaries` must be rising steps from 1 to 2"),
    ):
        with pytest.raises(app.UsageError, match=message):
            run(train_parts, tmp_path / "run", *TINY, f"--partitions={partition}")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("student", ("student", PartitionName("end_to_end", 1))),
        ("forward_kl_by_block_2", ("forward_kl", PartitionName("by_block", 2))),
        ("ilkd_at_steps_4_12", ("ilkd", PartitionName("at_steps", 3, (4, 12)))),
        ("student_across_blocks_10", ("student", PartitionName("across_blocks", 10))),
        ("student_across_blocks_1", None),
        ("student_", None),
        ("pictures", None),
    ],
)
def test_names_of_models(name, parts):
    assert split_model_name(name, METHODS) == parts
