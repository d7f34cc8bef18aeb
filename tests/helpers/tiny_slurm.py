"""A Slurm of one node that a test starts and stops: real daemons, in a folder of their own."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol")
_CONFIG = """
ClusterName=tiny
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=100000,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=600
MessageTimeout=100
TCPTimeout=60
BatchStartTimeout=600
SlurmdTimeout=0
UnkillableStepTimeout=1200
MinJobAge=900
MaxArraySize=2
ReturnToService=2
SlurmctldDebug=info
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2
"""


@dataclass(frozen=True)
class TinySlurm:
    """A running cluster; `env` leads its commands there."""

    folder: Path
    env: dict[str, str]

    def run(self, *words: str) -> str:
        """stdout of a Slurm command."""
        return subprocess.run(
            words, env={**os.environ, **self.env}, capture_output=True, text=True, check=True
        ).stdout

    def states(self) -> dict[str, str]:
        """State of each job that Slurm remembers, array tasks apart."""
        lines = self.run("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
        return dict(line.split() for line in lines.splitlines())

    def wait(self, *jobs: str, seconds: float = 800) -> dict[str, str]:
        """Wait until these jobs (with all array tasks) have ended; states of their parts."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            parts = {
                name: state for name, state in self.states().items() if name.split("_")[0] in jobs
            }
            if parts and not set(parts.values()) & {"PENDING", "RUNNING", "COMPLETING"}:
                return parts
            time.sleep(0.2)
        raise AssertionError(f"jobs {jobs} still {parts}")


def why_not() -> str:
    """Why no Slurm can be started here; empty if one can."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"Slurm is not installed: no {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "Slurm's daemons need root here"


@contextlib.contextmanager
def tiny_slurm() -> Iterator[TinySlurm]:
    """A cluster of this machine for as long as the block lasts."""
    # Not below pytest's own folder, which munged finds too private for its socket.
    folder = Path(tempfile.mkdtemp(prefix="tiny-slurm-"))
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    config = folder / "slurm.conf"
    controller_port, node_port = _free_ports()
    config.write_text(
        _CONFIG.format(
            host=host,
            folder=folder,
            cpus=os.cpu_count(),
            memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20) // 2,
            controller_port=controller_port,
            node_port=node_port,
        )
    )
    env = {"SLURM_CONF": str(config)}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        processes.append(
            _start(
                folder, env, "munged", "--foreground", f"--key-file={key}",
                f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid",
                f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed",
            )
        )  # fmt: skip
        _until(lambda: (folder / "munge.socket").exists(), folder, "munged")
        processes.append(_start(folder, env, "slurmctld", "-D"))
        processes.append(_start(folder, env, "slurmd", "-D", "-N", host))
        cluster = TinySlurm(folder, env)
        _until(lambda: _is_idle(cluster), folder, "slurmd")
        yield cluster
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _start(folder: Path, env: dict[str, str], name: str, *words: str) -> subprocess.Popen[bytes]:
    program = _program(name)
    assert program is not None
    with (folder / f"{name}.out").open("wb") as out:
        return subprocess.Popen(
            [program, *words], env={**os.environ, **env}, stdout=out, stderr=out
        )


def _is_idle(cluster: TinySlurm) -> bool:
    try:
        return "idle" in cluster.run("sinfo", "--noheader", "--format=%t")
    except subprocess.CalledProcessError:
        return False


def _until(condition: object, folder: Path, name: str, seconds: float = 300) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        logs = "".join(path.read_text()[-2000:] for path in folder.glob(f"{name}*"))
        assert time.monotonic() < end, f"{name} does not start\n{logs}"
        time.sleep(0.1)


def _free_ports() -> tuple[int, int]:
    """Two ports that nobody listens to, and no outgoing connection is given meanwhile."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.SystemRandom().sample(range(first // 2, first), 200):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("", port))  # as the daemons do
            found.append(port)
            if len(found) == 2:
                return found[0], found[1]
    raise AssertionError("no port is free")
