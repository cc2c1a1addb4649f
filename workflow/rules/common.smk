# What comes before all rules: the settings, checked, and how a mistake of the user is reported.
import atexit
import os
import sys
import time
from pathlib import Path

import yaml

sys.path.insert(0, workflow.basedir)  # the code beside this Snakefile, which is what the jobs run too

from dacsm.config.datasets import dataset_names
from dacsm.config.params import load_params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.project import PARAMS_FILE, Project
from dacsm.ledger.provenance import require_records
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_text

STARTED = time.time()
# `.venv/bin/snakemake` finds `python` without the environment being activated.
os.environ.update(PATH=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))


def stop(sentence):
    """End with one sentence, and without the traceback that Snakemake would add to an exception."""
    sys.exit(f"dacsm: {sentence}")


def last_word(sentence):
    """Say it once Snakemake has said all that it has to say."""
    atexit.register(print, f"dacsm: {sentence}", file=sys.stderr)


def merged_params():
    """The settings that Snakemake sees, and the file from which the commands read the same.

    Under the root of params.yaml, results are what params.yaml says: DVC and the next reader look nowhere else.
    """
    written, params = load_params(PARAMS_FILE), parse_params(config, "--config or --configfile")
    if params == written:
        return params, PARAMS_FILE
    if Path(params.root) == Path(written.root):
        stop(
            f"--config or --configfile changes settings of the results under root {params.root!r}, which {PARAMS_FILE} "
            "decides; edit it instead, or give the variant a root of its own with `--config root=runs/NAME`."
        )
    return params, Path(params.root) / PARAMS_FILE


def write_settings():
    if SETTINGS_FILE != PARAMS_FILE:
        text = yaml.safe_dump(PARAMS.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_text(SETTINGS_FILE, f"# Written by Snakemake: params.yaml with what --config changed.\n{text}")


def report_failures():
    """Let the sentences that failed commands left in their logs come last."""
    logs = [log for log in (PATHS.root / "logs").rglob("*.log") if log.stat().st_mtime >= STARTED]
    lines = [line for log in sorted(logs) for line in log.read_text(errors="replace").splitlines()]
    sentences = dict.fromkeys(line.removeprefix("dacsm: ") for line in lines if line.startswith("dacsm: "))
    for sentence in sentences or ["a job failed without a word of its own; its log is named above."]:
        last_word(sentence)


try:
    PARAMS, SETTINGS_FILE = merged_params()
    PATHS = Paths(Path(PARAMS.root))
    PROJECTS = {}  # by dataset
    for name in PARAMS.experiments:
        PROJECTS.setdefault(
            PARAMS.dataset_of(name), Project(PARAMS, PARAMS.load_dataset_of(name), PATHS, SETTINGS_FILE)
        )
    require_records(PATHS)
except InputError as error:
    stop(error)
