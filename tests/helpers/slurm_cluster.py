"""A SLURM cluster of one node on this machine, from Debian's packages: partitions cpu and gpu, a GPU that is counted.

    sudo .venv/bin/python tests/helpers/slurm_cluster.py up|down|check

`check` installs what is missing and prints why there can be no cluster here, if so. Needs root. All daemons listen on
the loopback device and keep their files in one folder; their process ids are written there, and `down` ends only these.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
FOLDER = Path(tempfile.gettempdir()) / "xtalgen-slurm"
CONFIGURATION = Path("/etc/slurm/slurm.conf")  # where the plugin's job step looks, whatever SLURM_CONF says
CONF = """
ClusterName=xtalgen
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoInAddrAny
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MinJobAge=600
MpiDefault=none
KillWait=5
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Returns why no cluster can be brought up here, or None."""
    if os.geteuid() != 0:
        return "a SLURM cluster of our own needs root"
    if not _installed() and not shutil.which("apt-get"):
        return "neither SLURM nor apt-get, which would install it, is here"
    return None


def install() -> str | None:
    """Installs what is missing, within minutes also where there is no network; returns why it cannot, or None."""
    if _installed():
        return None
    network = [
        word for key in ("http::Timeout=15", "https::Timeout=15", "Retries=1") for word in ("-o", f"Acquire::{key}")
    ]
    wanted = ["install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES]
    known = ["-o", "DPkg::Lock::Timeout=30", *network]
    with _no_daemons():
        if _apt([*known, *wanted, "--download-only"]) and (failed := _apt([*known, "update", "--quiet"])):
            return failed
        return _apt([*known, *wanted]) or (None if _installed() else "apt-get installed no SLURM")


def _apt(words: list[str]) -> str | None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            ["apt-get", *words], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
    except subprocess.TimeoutExpired:
        return "apt-get takes longer than a minute (is there a network?)"
    return (done.stderr.strip().splitlines() or ["apt-get failed"])[-1] if done.returncode else None


@contextlib.contextmanager
def _no_daemons() -> Iterator[None]:
    """Keeps Debian's packages from starting daemons of their own when they are installed."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def up(folder: Path = FOLDER, cpus: int = 8, memory: int = 64_000) -> None:
    """Starts the daemons, and waits until the node is idle. Does nothing when it is."""
    if _idle():
        return
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, cpus=cpus, memory=memory))
    # /dev/null as the device: a count alone would leave the node invalid.
    (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File=/dev/null\n")
    CONFIGURATION.parent.mkdir(parents=True, exist_ok=True)
    for name in ("slurm.conf", "gres.conf"):
        link = CONFIGURATION.with_name(name)
        link.unlink(missing_ok=True)
        link.symlink_to(folder / name)
    _start_munge(folder)
    subprocess.run(["slurmctld", "-i"], check=True)
    subprocess.run(["slurmd"], check=True)
    deadline = time.monotonic() + 60
    while not _idle():
        if time.monotonic() > deadline:
            log = (folder / "slurmctld.log").read_text()[-2000:]
            raise RuntimeError(f"the node did not become idle; {folder}/slurmctld.log ends with\n{log}")
        subprocess.run(["scontrol", "update", f"NodeName={host}", "State=RESUME"], capture_output=True, check=False)
        time.sleep(0.5)


def down(folder: Path = FOLDER) -> None:
    """Cancels what runs, ends the daemons by their process ids and takes the configuration away."""
    with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
        subprocess.run(["scancel", "--me"], capture_output=True, timeout=20, check=False)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            left = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True, timeout=10, check=False)
            if not left.stdout.strip():
                break
            time.sleep(0.5)
    for name in ("slurmd", "slurmctld", "munged"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            number = int((folder / f"{name}.pid").read_text())
            if Path(f"/proc/{number}/comm").read_text(encoding="utf-8").strip() == name:
                os.kill(number, signal.SIGTERM)
    for name in ("slurm.conf", "gres.conf"):
        link = CONFIGURATION.with_name(name)
        if link.is_symlink() and link.readlink().parent == folder:
            link.unlink()


def _start_munge(folder: Path) -> None:
    key = folder / "munge.key"
    if not key.exists():
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
    owner = pwd.getpwnam("munge")
    folder.chmod(0o755)
    for path in (folder, key):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    command = ["munged", f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"]
    command += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed", "--force"]
    prefix = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    subprocess.run([*prefix, *command], check=True, capture_output=True)


def _installed() -> bool:
    return all(shutil.which(name) for name in PROGRAMS)


def _idle() -> bool:
    if not shutil.which("sinfo"):
        return False
    try:
        found = subprocess.run(
            ["sinfo", "--noheader", "--format=%t"], capture_output=True, text=True, timeout=10, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return found.returncode == 0 and set(found.stdout.split()) in ({"idle"}, {"mix"}, {"alloc"})


def check() -> None:
    """Ends the program with the reason, where there is one, why there can be no cluster here."""
    sys.exit(missing() or install())


if __name__ == "__main__":
    {"up": up, "down": down, "check": check}[sys.argv[1]]()
