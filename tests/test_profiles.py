"""The profile for Slurm covers every stage, and says what a cluster needs."""

from pathlib import Path

import yaml

from benchmarks import cluster, slurm
from dacsm.ledger.pipeline import STAGES

PROFILE = yaml.safe_load((Path(__file__).parents[1] / "profiles/slurm/config.yaml").read_text(encoding="utf-8"))


def test_every_stage_that_computes_goes_to_the_partition_with_gpus() -> None:
    computing = {name for name, stage in STAGES.items() if "compute" in stage.takes}
    assert PROFILE["set-resources"] == {name: {"slurm_partition": "GPU_PARTITION"} for name in computing}


def test_a_job_is_followed_without_accounting_and_started_again_once() -> None:
    assert PROFILE["slurm-status-command"] == "squeue"
    assert PROFILE["slurm-requeue"] is True  # by Slurm alone, after a node's death
    assert PROFILE["retries"] > 0


def test_runs_that_share_a_job_go_one_after_another() -> None:
    assert PROFILE["default-resources"]["runs"] == PROFILE["resources"]["runs"] == 1
    assert PROFILE["set-resource-scopes"] == {"runs": "local"}


def test_the_trial_cluster_has_the_profile_s_account_and_partitions() -> None:
    names = {PROFILE["default-resources"]["slurm_partition"], PROFILE["set-resources"]["adapt"]["slurm_partition"]}
    assert all(f"\nPartitionName={name} " in slurm.SLURM_CONF for name in names)
    assert PROFILE["default-resources"]["slurm_account"] == slurm.ACCOUNT
    assert {group.split("=")[0] for group in cluster.GROUPS} <= set(STAGES)


def test_processes_are_found_by_their_environment() -> None:
    mark = {"DACSM_TEST_PROFILES": str(Path(__file__))}
    assert not list(slurm.processes(**mark))
    with slurm.subprocess.Popen(["sleep", "60"], env=slurm.os.environ | mark) as sleeper:
        assert list(slurm.processes(**mark)) == list(slurm.processes("sleep", "60", **mark)) == [sleeper.pid]
        assert not list(slurm.processes(**mark, OTHER="variable"))
        sleeper.kill()


def test_processes_are_found_by_an_open_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log, slurm.subprocess.Popen(["sleep", "60"], stdout=log) as sleeper:
        assert sleeper.pid in set(slurm.users_of(tmp_path / "log"))
        assert slurm.kill([sleeper.pid]) == 1
        assert sleeper.wait() == -slurm.signal.SIGKILL
        assert slurm.kill([sleeper.pid]) == 0
