"""Main, guard, or both are killed (faults 1, 2, 3 and 4 of the list in docs/safety.md)."""

from __future__ import annotations

import logging
import os
import random
import signal
import time

import pytest

from memlab.kernel.task import state
from tests.faults.trial import Trial, assert_holds, journal

pytestmark = pytest.mark.faults

SEED = 20260731
BATCHES = 5
EACH = 10
DURATION = "2500ms"
LONGEST = 4.4
"""Seconds of a whole run of that duration with its start and its clean-up, and somewhat more."""


def instants(batch: int) -> list[float]:
    """When to kill: one random instant in each fiftieth of a run, dealt out to the batches."""
    chance, total = random.Random(SEED), BATCHES * EACH
    drawn = [(number + chance.random()) * LONGEST / total for number in range(total)]
    return drawn[batch::BATCHES]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_killed_at_random_instants_the_host_comes_back_and_nothing_committed_is_lost(
    trial: Trial, batch: int
) -> None:
    met, slowest = [], 0.0
    for instant in instants(batch):
        with trial.up(duration=DURATION) as run:
            time.sleep(instant)
            safe = run.committed()
            run.main.kill()
            killed = run.main.wait() == -signal.SIGKILL
            slowest = max(slowest, trial.given_back())
            assert_holds(run.recording, safe)
            met.append((killed, safe.sample > 0))
    said = "%d of %d found main alive and sampling; given back within %.2f s"
    logging.info(said, met.count((True, True)), len(met), slowest)
    assert met.count((True, True)) >= 4, "the instants have missed the run"
    with trial.up(duration="1500ms") as run:
        assert run.end() == 0, run.said


@pytest.mark.parametrize(
    "point",
    [
        *(f"journal-before-write:{n}" for n in (1, 5, 12)),
        *(f"journal-before-fsync:{n}" for n in (1, 8, 14)),
        *(f"journal-after-fsync:{n}" for n in (3, 6, 10)),
        *(f"knob-{when}-write:{n}" for when in ("before", "after") for n in (1, 2, 4)),
        *(f"restore-step:{n}" for n in (1, 2, 4, 8)),
        *(f"restore-{when}-write:{n}" for when in ("before", "after") for n in (1, 3)),
        "file-before-rename:1",
    ],
)
def test_killed_at_a_write_the_host_comes_back(trial: Trial, point: str) -> None:
    short = [] if "restore" in point else ["--set", "policy.name=static"]
    with trial.up(*short, duration="1500ms", env={"MEMLAB_FAIL": point}) as run:
        assert run.main.wait(20) == -signal.SIGKILL, run.said
        trial.given_back()


def test_a_killed_guard_is_replaced_and_the_new_one_does_its_work(trial: Trial) -> None:
    with trial.up(duration="20s") as run:
        run.until_pressed()
        first = run.guard
        os.kill(first, signal.SIGKILL)
        run.until(lambda: run.events("guard-replaced"), "the guard is replaced", within=2)
        assert run.guard != first
        safe = run.committed()
        run.main.kill()
        run.main.wait()
        trial.given_back()
        assert_holds(run.recording, safe)


def test_a_run_whose_guard_was_killed_ends_as_any_other(trial: Trial) -> None:
    with trial.up(duration="3s") as run:
        run.until_pressed()
        os.kill(run.guard, signal.SIGKILL)
        assert run.end() == 0, run.said


@pytest.mark.parametrize("words", [("clean",), ("up",), ("down",)])
def test_the_next_command_gives_back_what_two_killed_processes_left(
    trial: Trial, words: tuple[str, ...]
) -> None:
    with trial.up(duration="20s") as run:
        run.until_pressed()
        safe, guard = run.committed(), run.guard
        os.kill(run.main.pid, signal.SIGSTOP)  # so that it does not replace the guard
        os.kill(guard, signal.SIGKILL)
        run.main.kill()
        run.main.wait()
        while state(guard) not in (None, "Z"):
            time.sleep(0.01)
    assert journal().swaps, "nothing is left that a command could give back"
    began = time.monotonic()
    if words == ("up",):
        with trial.up(duration="1500ms") as again:
            assert again.end() == 0, again.said
    else:
        ended = trial.memlab(*words)
        assert ended.returncode in ((0,) if words == ("clean",) else (0, 3)), ended.stderr
        trial.given_back(within=1.0)
    assert time.monotonic() - began < 10
    assert_holds(run.recording, safe)
