"""Runs clients under faults for a while and judges what they saw: `python -m chaos.run --duration 600 --seed 7`."""

import argparse
import random
import shutil
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checker import Verdict, check
from chaos.events import Fault, Topic
from chaos.evidence import NO_MORE
from chaos.fleet import Fleet
from chaos.history import History, load, now
from chaos.nodes import ChaosCluster
from chaos.report import progress, told
from chaos.schedule import Step, plan
from chaos.server import ChaosServer
from chaos.topics import BRIEF, KEPT, TOPICS, TRIMMED

PROGRESS_EVERY_S = 10.0


@dataclass
class Outcome:
    """What a run came to."""

    seed: int
    duration_s: float
    folder: Path
    cluster: int = 0
    """Nodes of a cluster; 0 for a server alone."""
    injected: Counter[str] = field(default_factory=Counter)
    store_calls: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def good(self) -> bool:
        """Whether every promise was kept and the run itself went to its end."""
        return not self.failures and self.verdict is not None and not self.verdict.violations


class Run:
    """One run. Each track of faults has a thread of its own; the history outlives a failure."""

    def __init__(
        self, seed: int, duration_s: float, folder: Path, say: Callable[[str], None] = print, cluster: int = 0
    ) -> None:
        self.outcome = Outcome(seed, duration_s, folder, cluster)
        self.folder, self.seed, self.duration_s, self.say = folder, seed, duration_s, say
        self.subject: ChaosServer | ChaosCluster = ChaosCluster(folder, cluster) if cluster else ChaosServer(folder)
        self.history = History(folder / "history", "faults")
        self.fleet = Fleet(self.subject.bootstrap, folder, seed)
        self._lock = threading.Lock()
        self._failed = threading.Event()

    def run(self) -> Outcome:
        """Everything: start, faults, quiet, last readings, judgement."""
        try:
            self._prepare()
            self._trouble()
            self._quiet()
        except (AssertionError, TimeoutError, RuntimeError) as error:
            self.outcome.failures.append(str(error))
        finally:
            self.outcome.failures += [f"the server panicked: {line}" for line in self.subject.panics()]
            self.outcome.failures += self.fleet.failures
            injected = self.subject.store.proxy.injected
            self.outcome.store_calls.update({fault.value: count for fault, count in injected.items()})
            self.fleet.close()
            self.subject.close()
            self.history.close()
        self.outcome.verdict = check(load(self.fleet.history))
        return self.outcome

    def _prepare(self) -> None:
        self.subject.begin()
        self.fleet.bootstrap = self.subject.bootstrap
        for topic in TOPICS:
            self.subject.create_topic(topic)
            replicas = max(1, self.outcome.cluster)
            self.history.note(Topic(now(), topic.name, topic.partitions, topic.retention_ms, topic.trimmed, replicas))
        # Leaders and coordinators are elected for the first time.
        self.history.note(Fault(now(), "the beginning", "", self.subject.tracks[0], over=True))
        self.fleet.start()

    def _trouble(self) -> None:
        """Injects the schedule's faults, each track on its own thread, until the time is over."""
        begun = now()
        steps = plan(self.seed, self.duration_s, self.subject.tracks)
        tracks = {step.track: [own for own in steps if own.track == step.track] for step in steps}
        threads = [threading.Thread(target=self._track, args=(begun, own), daemon=True) for own in tracks.values()]
        for thread in threads:
            thread.start()
        try:
            self._watch(begun)
        except BaseException:
            self._failed.set()
            raise
        finally:
            for thread in threads:
                thread.join(150)
        assert not any(thread.is_alive() for thread in threads), "a fault did not come to its end"
        assert not self._failed.is_set(), "a fault could not be injected"

    def _watch(self, begun: float) -> None:
        """Until the time is over or a fault failed."""
        said = begun
        while (passed := now() - begun) < self.duration_s and not self._failed.is_set():
            self.fleet.check()
            if now() - said >= PROGRESS_EVERY_S:
                said = now()
                self.say(progress(passed, self.duration_s, self.outcome.injected, self.fleet.history))
            self._failed.wait(0.2)

    def _track(self, begun: float, steps: list[Step]) -> None:
        rng = random.Random(f"{self.seed} {steps[0].track} victims")
        try:
            for step in steps:
                if self._failed.wait(max(0.0, begun + step.at_s - now())):
                    return
                self._inject(step, rng.randrange(1 << 16))
        except Exception as error:  # noqa: BLE001 - handed to the run
            with self._lock:
                self.outcome.failures.append(f"{step.fault} at {step.at_s} s: {error}")
            self._failed.set()

    def _inject(self, step: Step, victim: int) -> None:
        with self._lock:
            self.outcome.injected[step.fault] += 1
        detail = f"for {step.lasts_s:.1f} s" if step.lasts_s else ""
        self.history.note(Fault(now(), step.fault, detail, step.track))
        if step.track == "store":
            self.subject.store.fail(step.fault)
            self._failed.wait(step.lasts_s)
            self.subject.store.heal()
            over = "the store works again"
        elif step.track == "clients":
            client = self.fleet.chosen("writer" if "writer" in step.fault else "member", victim)
            if step.fault == "pause a member":
                self.fleet.pause(client, step.lasts_s)
                over = f"{client.name} goes on"
            else:
                over = self.fleet.replace(client)
        else:
            over = self.subject.inject(step, victim, self._note)
        self.history.note(Fault(now(), over, "", step.track, over=True))

    def _note(self, fault: str, detail: str) -> None:
        self.history.note(Fault(now(), fault, detail))

    def _quiet(self) -> None:
        """No more faults: everybody comes to an end, and everything is read, hot and cold, then from the archive alone."""
        self._note(NO_MORE, "")
        self.say("no more faults: the clients end, then everything is read")
        self.subject.wait_healthy()
        self.fleet.end("writer")
        self.fleet.end("reader", "member", "observer", "churner")
        self.fleet.last_reading()
        for topic in (KEPT, TRIMMED, BRIEF):
            self.subject.settle(topic.name)
        self.history.note(Fault(now(), "terminate", "", self.subject.tracks[0]))
        self.subject.terminate()
        self.subject.start()
        self.history.note(Fault(now(), "running again after terminate", "", self.subject.tracks[0], over=True))
        self.fleet.last_reading()
        self.subject.terminate()


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=60, help="seconds of faults")
    parser.add_argument("--seed", type=int, default=None, help="repeats a schedule; drawn if not given")
    parser.add_argument("--cluster", type=int, default=0, help="nodes of a cluster; a server alone if not given")
    parser.add_argument("--folder", type=Path, default=None, help="where the history and the logs go")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a good run too")
    parser.add_argument("--check", type=Path, default=None, help="judge the history in this folder again, and nothing else")
    args = parser.parse_args()
    if args.check is not None:
        verdict = check(load(args.check))
        print(told(Outcome(0, 0, args.check, verdict=verdict)))
        return int(bool(verdict.violations))
    seed = random.SystemRandom().randrange(1 << 32) if args.seed is None else args.seed
    folder = args.folder or Path(tempfile.mkdtemp(prefix="firn-chaos-"))
    print(f"seed {seed}, {args.duration:g} s of faults, history in {folder / 'history'}", flush=True)
    outcome = Run(seed, args.duration, folder, lambda line: print(line, flush=True), args.cluster).run()
    print(told(outcome), flush=True)
    if outcome.good and not args.keep and args.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if outcome.good else 1


if __name__ == "__main__":
    sys.exit(main())
