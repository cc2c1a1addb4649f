"""Write dacsm.yaml, the Conda environment of the rules, from requirements.lock: the same versions, without hashes."""

from pathlib import Path

HERE = Path(__file__).parent
LOCK = HERE.parents[1] / "requirements.lock"
ENVIRONMENT = HERE / "dacsm.yaml"

HEAD = """\
# Made from requirements.lock by make_conda_env.py; `make lock` renews both.
name: dacsm
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def environment(lock: str) -> str:
    """The Conda environment with each package that a lock pins, and its marker."""
    lines = (line.removesuffix("\\").strip() for line in lock.splitlines() if line[:1].isalnum())
    return HEAD + "".join(f'      - "{line}"\n' for line in lines)


if __name__ == "__main__":
    ENVIRONMENT.write_text(environment(LOCK.read_text(encoding="utf-8")), encoding="utf-8")
