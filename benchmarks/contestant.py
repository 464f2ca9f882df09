"""The driver's side of one contestant: its process, and what is said to it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import RESULTS, ROOT, Peer, UnavailableError, python_of
from benchmarks.rounds import Job


@dataclass(frozen=True)
class Contestant:
    """One way to train.

    Attributes:
        label: in tables.
        peer: whose environment it runs in; None is this project's.
        module: its script among the workers.
        variant: of its settings.
        counts_features: keeps the `k` largest activations instead of penalising their sum.
    """

    label: str
    peer: Peer | None
    module: str
    variant: str
    counts_features: bool = False


class Worker:
    """A contestant that has read its warm start and waits.

    It stays alive between rounds, and works in none but its own.
    """

    def __init__(self, contestant: Contestant, job: Job) -> None:
        """Start it.

        Raises:
            UnavailableError: it does not start; the line names its log.
        """
        self.contestant = contestant
        self._log = RESULTS / "logs" / f"{contestant.label.replace(' ', '-')}.log"
        answers, for_answers = os.pipe()
        self._process = _start(contestant, self._log, for_answers)
        os.close(for_answers)
        self._answers = os.fdopen(answers)
        self._ask(asdict(job))

    def steps(self, count: int) -> float:
        """Seconds for so many steps."""
        return float(self._ask({"do": "steps", "count": count})["seconds"])

    def forget_peak(self) -> None:
        """Count the peak of memory from now on: compilers and first steps take more."""
        self._ask({"do": "forget"})

    def report(self, weights: Path) -> dict[str, Any]:
        """Peak memory and version; the weights as they are now go into a file."""
        return self._ask({"do": "report", "path": str(weights)})

    def end(self) -> None:
        """Let it go."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._answers.close()

    def _ask(self, words: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._answers.readline())
        except (OSError, json.JSONDecodeError):
            raise UnavailableError(self._last_words()) from None
        return answer

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self.end()
        said = self._log.read_text().strip().splitlines() or ["nothing"]
        log = self._log.relative_to(ROOT)
        return f"{self.contestant.label}: left out, it ended: {said[-1][:160]} (see {log})"


def _start(contestant: Contestant, log: Path, channel: int) -> subprocess.Popen[str]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as said:
        module = f"benchmarks.workers.{contestant.module}"
        return subprocess.Popen(
            [python_of(contestant.peer), "-u", "-m", module, str(channel)],
            cwd=ROOT,
            env={**os.environ, **QUIET},
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            pass_fds=[channel],
            text=True,
        )


# Nothing may be fetched or reported while the clock runs. And threads that wait must sleep: where
# another process wants a core, spinning ones make every parallel loop wait for the scheduler's next
# tick, which is ten times as long as the loop; on a quiet machine it makes no difference.
QUIET = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "false",
}
