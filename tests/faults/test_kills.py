"""Workflows and jobs that are killed with SIGKILL, two workflows at once, a job that outlives its workflow."""

import signal
import time

from drill import CHECKPOINT, TARGETS, Place, kill, same

# What shows that a stage's job has done part of its work; without one it is killed soon after it began.
PROGRESS = {
    "data": "",
    "train": "results/train/tiny/csp/work/*/*",
    "sample": "results/sample/tiny/csp/work-1-of-1/chunk-*",
    "relax": "results/relax/tin/work-1-of-1/*.jsonl",
    "evaluate": "",
    "explorer": "",
    "tables": "",
}
SOON = 0.4


class Executioner:
    """Kills the workflow, and in the next run the job, once in each stage."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.waiting = {"workflow": set(PROGRESS), "job": set(PROGRESS)}
        self.seen: dict[int, tuple[float, object]] = {}
        self.done: list[tuple[str, str, float]] = []
        self.since = time.monotonic()

    def progress(self, stage: str) -> object:
        """Returns what differs when a stage's job has got on."""
        pattern = PROGRESS[stage]
        return sorted((p.name, p.stat().st_mtime_ns) for p in self.place.folder.glob(pattern)) if pattern else None

    def is_ready(self, stage: str, pid: int) -> bool:
        """Whether a job has done part of its work."""
        try:
            now = self.progress(stage)
        except FileNotFoundError:
            return False
        since, before = self.seen.setdefault(pid, (time.monotonic(), now))
        late = 0.0 if stage == "tables" else SOON
        return now != before if PROGRESS[stage] else time.monotonic() - since >= late

    def watch(self, running) -> bool:
        """Kills what there is to kill in one run; returns whether the workflow itself was killed."""
        while running.process.poll() is None:
            for stage, pid in running.jobs():
                for victim in ("workflow", "job"):
                    if stage in self.waiting[victim] and self.is_ready(stage, pid):
                        running.kill() if victim == "workflow" else kill(pid)
                        self.waiting[victim].discard(stage)
                        self.done.append((victim, stage, time.monotonic() - self.since))
                        self.since = time.monotonic()
                        self.seen.pop(pid)
                        if victim == "workflow":
                            return True
                        break
            time.sleep(0.02)
        return False


def test_killed_in_every_stage(tmp_path, reference, report):
    place = Place(tmp_path)
    executioner = Executioner(place)
    while executioner.watch(running := place.start("--retries", "2", "--", *TARGETS)):
        if len(executioner.done) == 1:
            line = place.refusal(said="--unlock")
            place.run("--unlock")
            report("lock that a killed workflow left", f"refused: {line}")
        place.unlock()
    assert running.process.returncode == 0, running.text()
    assert executioner.waiting == {"workflow": set(), "job": set()}, "ended before they could be killed"
    assert "resumed at epoch" in place.path("logs/train/tiny/csp.log").read_text()
    same(place.folder, reference)
    for victim, stage, seconds in executioner.done:
        where = "restarted by hand" if victim == "workflow" else "restarted by --retries"
        report(f"kill -9 of the {victim} in stage {stage}", f"survived, {where}", seconds)


def test_two_workflows_at_once(copy, reference, report):
    copy.remove("train")
    first = copy.start(output="first.txt")
    first.wait_for("train")
    line = copy.refusal(said="Directory cannot be locked")
    assert first.process.wait(timeout=900) == 0
    same(copy.folder, reference)
    report("two workflows at once in one folder", f"the second refused: {line}")


def test_a_job_that_outlives_its_workflow(copy, reference, report):
    copy.remove("train")
    first = copy.start(CHECKPOINT)
    job = first.wait_for("train", "results/train/tiny/csp/work/*/*")
    kill(job, signal.SIGSTOP)
    first.kill(jobs_too=False)
    copy.unlock()
    try:
        line = copy.refusal(CHECKPOINT, said=r"process \d+ on .* is using this folder")
    finally:
        kill(job)
    copy.run()
    same(copy.folder, reference)
    report("kill -9 of the workflow alone, its training lives on", f"refused: {line}")
