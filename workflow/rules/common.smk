# What comes before all else: how a mistake of the user is reported, and params.yaml itself.
import atexit
import os
import sys
import time
from pathlib import Path

import yaml

sys.path.insert(0, workflow.basedir)  # the code beside this Snakefile, which is what the jobs run too

from dacsm.config.datasets import CATALOG, dataset_names
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_text
from dacsm.config.paths import Paths
from dacsm.config.params import SOURCE_ONLY, load_params, parse_params
from dacsm.config.yaml_file import read_yaml
from dacsm.data.raw.describe import describe_folders
from dacsm.report.published import published_file
from dacsm.ledger.provenance import FACTS, SETTINGS, code_of, require_records, settings_of
from dacsm.ledger.runs import PHASES, asides_of, runs_of

STARTED = time.time()
PARAMS_FILE = Path("params.yaml")


def stop(sentence):
    """End with one sentence, and without the traceback that Snakemake would add to an exception."""
    sys.exit(f"dacsm: {sentence}")


def last_word(sentence):
    """Say it once Snakemake has said all that it has to say."""
    atexit.register(print, f"dacsm: {sentence}", file=sys.stderr)


# `.venv/bin/snakemake` finds `python` without the environment being activated.
os.environ.update(PATH=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))

try:
    describe_folders(read_yaml(PARAMS_FILE), PARAMS_FILE)
    FILE_PARAMS = load_params(PARAMS_FILE)
except InputError as error:
    stop(error)
