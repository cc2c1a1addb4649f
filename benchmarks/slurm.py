"""A Slurm on one machine, to try the pipeline on: two nodes with two pretended GPUs each, and accounting.

All daemons run in the foreground, as root, on ports and sockets of their own; all their files are in one folder.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_IFCHR

COMMANDS = {"slurmctld": "slurm-wlm", "slurmdbd": "slurmdbd", "munged": "munge", "mariadbd": "mariadb-server"}
NODES = ("n1", "n2")
CONFIGURATION = Path("/etc/slurm/slurm.conf")  # where a job step looks, which the plugin starts without SLURM_CONF
ACCOUNT = "ACCOUNT"  # this and the partitions have the names that profiles/slurm leaves to be filled in
DATABASE_PORT, ACCOUNTING_PORT, CONTROLLER_PORT, NODE_PORTS = 16816, 16817, 16818, "16821-16822"

ACCOUNTING_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={accounting}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
# No cgroups, since a container may have none: Linux's process tree says which processes are a job's. A job that does
# not end at SIGTERM is killed 2 seconds later. A node that comes back serves again (ReturnToService).
SLURM_CONF = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
KillWait=2
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
AccountingStoragePass={folder}/munge/socket
AccountingStoreFlags=job_comment
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port={nodes} CPUs=4 RealMemory=32000 Gres=gpu:2
PartitionName=PARTITION Nodes=ALL Default=YES State=UP
PartitionName=GPU_PARTITION Nodes=ALL State=UP
"""


def install() -> None:
    """Debian's packages of what is missing; says so first."""
    missing = sorted({package for command, package in COMMANDS.items() if shutil.which(command) is None})
    if os.geteuid() != 0:
        sys.exit("A Slurm of one's own needs root: sudo make test-cluster")
    if missing:
        print(f"apt-get installs {', '.join(missing)}, which stay.", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "--quiet", "--quiet", *words], check=True, env=environment)


class Slurm:
    """The daemons; `with Slurm(folder) as slurm` starts them, and stops them and all jobs at the end."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.mark = {"DACSM_SLURM": str(folder)}  # in the environment of every daemon and job
        self.environment = {**os.environ, **self.mark, "SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> "Slurm":
        try:
            self._write()
            self._start_munge_and_database()
            self.daemon("slurmdbd", "slurmdbd", "-D")
            # No controller starts for the first time before the database knows its cluster.
            wait_until(lambda: self.succeeds("sacctmgr", "-i", "add", "cluster", "trial"), "slurmdbd")
            self.run("sacctmgr", "-i", "add", "account", ACCOUNT)
            self.run("sacctmgr", "-i", "add", "user", "root", f"account={ACCOUNT}")
            self.daemon("slurmctld", "slurmctld", "-D")
            for node in NODES:
                self.start_node(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Kill every process of this Slurm, its jobs included, and wait for their end."""
        while kill({*processes(**self.mark), *(pid for node in NODES for pid in self._on(node))}):
            time.sleep(0.1)  # one that ends may just have started another
        for daemon in reversed(self.daemons.values()):
            daemon.kill()
            daemon.wait()
        if CONFIGURATION.is_symlink() and CONFIGURATION.readlink() == self.folder / "slurm.conf":
            CONFIGURATION.unlink()

    def _write(self) -> None:
        """The configuration, and the devices that stand for GPUs."""
        ports = {"database": DATABASE_PORT, "accounting": ACCOUNTING_PORT, "controller": CONTROLLER_PORT}
        names = {"folder": self.folder, "host": socket.gethostname(), "nodes": NODE_PORTS, **ports}
        for place in ("controller", "munge", *(f"spool-{node}" for node in NODES)):
            (self.folder / place).mkdir()
        self.folder.chmod(0o755)
        (self.folder / "slurmdbd.conf").write_text(ACCOUNTING_CONF.format(**names))
        (self.folder / "slurmdbd.conf").chmod(0o600)
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**names))
        if CONFIGURATION.exists():
            sys.exit(f"{CONFIGURATION} is there: this machine has a Slurm, which stays as it is. Use another machine.")
        CONFIGURATION.unlink(missing_ok=True)  # a link to where there is nothing any more
        CONFIGURATION.symlink_to(self.folder / "slurm.conf")
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # loaded, but no job is put into any
        for index in range(2):
            os.mknod(self.folder / f"gpu{index}", 0o666 | S_IFCHR, os.makedev(1, 3))  # like /dev/null
        (self.folder / "gres.conf").write_text(f"NodeName=n[1-2] Name=gpu File={self.folder}/gpu[0-1]\n")

    def _start_munge_and_database(self) -> None:
        munge, data = self.folder / "munge", self.folder / "database"
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o400)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        places = [f"--{option}={munge / name}" for option, name in files.items()]
        self.daemon("munged", "munged", "--foreground", "--force", *places)
        self.run("mariadb-install-db", "--user=root", f"--datadir={data}", "--skip-test-db")
        (self.folder / "start.sql").write_text(
            "CREATE DATABASE slurm;\nCREATE USER slurm@localhost IDENTIFIED BY 'slurm';\n"
            "GRANT ALL ON slurm.* TO slurm@localhost;\n"
        )
        options = {"datadir": data, "socket": f"{data}.socket", "pid-file": f"{data}.pid", "port": DATABASE_PORT}
        options |= {"bind-address": "127.0.0.1", "init-file": self.folder / "start.sql"}
        words = [f"--{option}={value}" for option, value in options.items()]
        self.daemon("mariadbd", "mariadbd", "--no-defaults", "--user=root", *words)

    def daemon(self, name: str, *command: str, **environment: str) -> None:
        """Start a daemon in the foreground; what it says goes to <name>.out."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment | environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def start_node(self, node: str) -> None:
        """Start a node, and wait until it serves."""
        self.daemon(node, "slurmd", "-D", "-N", node, SLURMD_NODENAME=node)
        wait_until(lambda: self.run("sinfo", "-h", "-n", node, "-o", "%T") in ("idle", "mixed", "allocated"), node)

    def kill_node(self, node: str) -> None:
        """End a node as a power cut does: SIGKILL to slurmd, and to all that runs on it; the controller is told."""
        kill(self._on(node))
        self.daemons.pop(node).wait()
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=dead")

    def _on(self, node: str) -> set[int]:
        """The processes of a node; the one over each step (slurmstepd) hides its environment, but has the log open."""
        return {*processes(**self.mark, SLURMD_NODENAME=node), *users_of(self.folder / f"slurmd-{node}.log")}

    def run(self, *command: str) -> str:
        """What a command prints."""
        result = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {result.returncode}: {result.stderr}{result.stdout}")
        return result.stdout.strip()

    def succeeds(self, *command: str) -> bool:
        return subprocess.run(command, env=self.environment, capture_output=True).returncode == 0


def processes(*command: str, **environment: str) -> Iterator[int]:
    """The processes with these words in their command and these variables in their environment, without this one."""
    words = "\0".join(command).encode()
    wanted = {f"{name}={value}".encode() for name, value in environment.items()}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            variables = set((folder / "environ").read_bytes().split(b"\0"))
            if wanted <= variables and words in (folder / "cmdline").read_bytes() and int(folder.name) != os.getpid():
                yield int(folder.name)


def users_of(file: Path) -> Iterator[int]:
    """The processes that have a file open."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(descriptor.resolve() == file for descriptor in (folder / "fd").iterdir()):
                yield int(folder.name)


def kill(pids: Iterable[int]) -> int:
    """SIGKILL to each; how many there were."""
    count = 0
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            count += 1
    return count


def wait_until(happens: Callable[[], bool], what: str, seconds: float = 300) -> None:
    """Look twice a second; raises TimeoutError where it does not happen."""
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:.0f} s")
        time.sleep(0.5)
