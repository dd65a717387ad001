"""Every command and every snippet of the README and of the guide runs."""

import importlib
import pathlib
import re
import shlex

import numpy as np
import pytest
from absl import flags

from tfp_distill import Flow

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_xla")]

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
README, GUIDE = (
    (REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "docs/guide.md")
)
SCRIPTS = {
    "tfp-distill": "compress",
    "tfp-distill-train": "train",
    "tfp-distill-distill": "distill",
    "tfp-distill-evaluate": "evaluate",
    "tfp-distill-sample": "sample",
    "tfp-distill-export": "export",
    "tfp-distill-train-parts": "train_parts",
}
# So that a recipe runs in seconds: two steps on the embedded data.
SHORT = (
    "--teacher_training_steps=2",
    "--student_training_steps=2",
    "--report_steps=1",
    "--batch_size=64",
    "--teacher_width=8",
    "--teacher_depth=1",
    "--student_depth=1",
    "--jit_compile=off",
)


# A race of one, in this process.
RACE = ("--candidates=spline_1x4", "--workers=1")


def blocks(language, text=README + GUIDE):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands():
    """Returns the commands of our own scripts, those within longer lines too."""
    lines = "\n".join(blocks("shell")).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("&&")]
    parts = [part.removeprefix(".venv/bin/") for part in parts]
    return [part for part in parts if part.startswith("tfp-")]


@pytest.fixture
def empty_directory(tmp_path, monkeypatch):
    (tmp_path / "flags").symlink_to(REPOSITORY / "flags")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_snippets(empty_directory):
    namespace = {}
    snippets = blocks("python")
    assert len(snippets) >= 6
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), namespace)
    assert namespace["teacher"].step == 200
    assert namespace["distiller"].step == 10
    assert namespace["x"].shape == (3, 6)
    assert (empty_directory / "pictures/epoch_0002.png").is_file()
    assert namespace["bits"] > 0 and namespace["distance"].num_samples == 180
    counts, angles = namespace["drawn"].numpy().T
    assert np.all(counts % 1 == 0)
    assert np.all((angles >= 0) & (angles <= 360))
    assert namespace["backup"].history[-1]["step"] == namespace["lasting"].step == 20
    assert np.mean(namespace["again"] == namespace["data"].test[:3] // 16 * 17) > 0.99


def run(command, extra):
    script, *arguments = shlex.split(command)
    module = importlib.import_module(f"trainers.{SCRIPTS[script]}")
    values = flags.FlagValues()
    module.define_flags(values)
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    values([script, *arguments, *extra])
    module.main(values)


def write_household_data(path):
    """Writes rows in the format of the file that the guide names."""
    rows = np.random.default_rng(0).normal(5, 1, size=(1000, 3)).round(3)
    lines = ["Date;Time;Global_active_power;Voltage;Sub_metering_1"]
    lines += [f"16/12/2006;17:{n % 60:02};{a};{b};{c}" for n, (a, b, c) in enumerate(rows)]
    lines[7] = "16/12/2006;17:06;?;?;?"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_dir_of(command):
    return re.search(r"--run_dir=(\S+)", command).group(1)


def for_seconds(command):
    """Returns what makes the first command of a run small."""
    extra = list(SHORT)
    if "--students" not in command and "flagfile" not in command:
        extra += RACE if shlex.split(command)[0] == "tfp-distill" else ()
    if "flagfile" in command and "sampler" not in command and "--students" not in command:
        extra.append("--students=student")
    if "train-parts" in command:  # An epoch for each of two parts, and one end to end.
        extra += ["--student_training_steps=3", "--student_depth=2"]
    if "power_glow" in command:
        extra.append("--data=embedded")
    if "fashion_mnist" in command:  # Of the same kind, and comes with the library.
        extra.append("--data=digits")
    return extra


@pytest.mark.parametrize("run_dir", sorted({run_dir_of(command) for command in commands()}))
def test_commands(run_dir, empty_directory):
    write_household_data(empty_directory / "household_power_consumption.txt")
    if run_dir != "runs/embedded":  # It makes them; others use them.
        rows = np.random.default_rng(0).normal(size=(1000, 6))
        np.savetxt("samples.csv", rows, delimiter=",", header="a,b,c,d,e,f", comments="")
    of_run = [command for command in commands() if run_dir_of(command) == run_dir]
    for teacher in re.findall(r"--teacher_path=(\S+)", "\n".join(of_run)):  # Of another run.
        (empty_directory / teacher).parent.mkdir(parents=True)
        Flow.from_preset("digits_glow_teacher").save(empty_directory / teacher)
    for number, command in enumerate(of_run):
        run(command, () if number else for_seconds(command))
    directory = empty_directory / run_dir
    assert (directory / "report.html").is_file()
    assert (directory / "results.json").is_file()
    if any(shlex.split(command)[0] == "tfp-distill" for command in of_run):
        assert (directory / "saved_model" / "saved_model.pb").is_file()
    for output in re.findall(r"--output=(\S+)", "\n".join(of_run)):
        assert (empty_directory / output).stat().st_size > 1000


def test_commands_show_all_scripts():
    assert {shlex.split(command)[0] for command in commands()} == set(SCRIPTS)


def test_setup_commands_use_what_the_project_has():
    setup = "\n".join(blocks("shell"))
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert "pip install -e '.[test]'" in setup
    assert re.search(r"^test = \[", pyproject, flags=re.MULTILINE)
    for script, module in SCRIPTS.items():
        assert f'{script} = "tfp_distill.trainers.{module}:console"' in pyproject
