"""Signals, stopped processes, lost terminals (faults 5, 6, 7 and 8)."""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import pairwise

import pytest

from memlab.record.store import Recording
from tests.faults.trial import Trial, assert_holds, committed

pytestmark = pytest.mark.faults

SEED = 20260802
INTERRUPTED = 130


def test_a_second_interrupt_stops_no_clean_up(trial: Trial) -> None:
    with trial.up(duration="20s") as run:
        run.until_pressed()
        os.kill(run.main.pid, signal.SIGINT)
        run.until(lambda: "giving the host back" in run.said, "it cleans up", within=10)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            run.main.send_signal(number)
            time.sleep(0.01)
        assert run.end() == INTERRUPTED, run.said
        trial.given_back(within=0.5)
        assert run.events("restored"), "main itself gave the host back"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_run_told_to_end_gives_the_host_back_itself(trial: Trial, number: signal.Signals) -> None:
    with trial.up(duration="20s") as run:
        run.until_pressed()
        os.kill(run.main.pid, number)
        began = time.monotonic()
        assert run.end() == INTERRUPTED, run.said
        assert time.monotonic() - began < 5
        trial.given_back(within=0.5)
        assert run.recording is not None
        assert not run.recording.with_name(run.recording.name + "-wal").exists()
        with Recording.open(run.recording) as recording:
            assert recording.manifest["restored"]["ok"]


def test_interrupted_at_random_instants_of_its_start(trial: Trial) -> None:
    chance = random.Random(SEED)
    for part in range(8):
        with trial.up(duration="1500ms") as run:
            time.sleep((part + chance.random()) * 0.9 / 8)
            run.main.send_signal(signal.SIGINT)
            status = run.main.wait(20)
            # Before the command has begun, and has said so, Python itself answers the signal.
            assert status in (INTERRUPTED, -signal.SIGINT), run.said
            assert status == INTERRUPTED or run.recording is None
            trial.given_back(within=5)
            if run.recording is not None:
                assert_holds(run.recording, committed(run.recording))


def test_a_stopped_main_is_not_dead(trial: Trial) -> None:
    with trial.up(duration="6s") as run:
        run.until_pressed()
        before = run.committed()
        os.kill(run.main.pid, signal.SIGSTOP)
        time.sleep(2.5)
        during = run.committed()
        os.kill(run.main.pid, signal.SIGCONT)
        assert during.sample >= before.sample + 40, "the sampler does not wait for main"
        assert during.event == before.event, "only main writes events"
        assert run.end() == 0, run.said
        assert not run.events("aborted")
        assert not run.events("guard-replaced")


def test_a_stopped_sampler_leaves_a_gap_and_no_repeated_values(trial: Trial) -> None:
    with trial.up(duration="4s") as run:
        run.until_pressed()
        sampler = run.sampler
        os.kill(sampler, signal.SIGSTOP)
        time.sleep(1.0)
        os.kill(sampler, signal.SIGCONT)
        assert run.end() == 0, run.said
        assert run.recording is not None
        with Recording.open(run.recording) as recording:
            rows = recording.rows("SELECT began, missed FROM sample WHERE tier='fast' ORDER BY id")
        gap, missed = max((later[0] - earlier[0], later[1]) for earlier, later in pairwise(rows))
        assert gap >= 900_000
        assert 15 <= missed <= gap / 50_000


def test_a_guard_that_cannot_keep_time_ends_the_lab(trial: Trial) -> None:
    with trial.up(duration="20s") as run:
        run.until_pressed()
        for _ in range(2):
            os.kill(run.guard, signal.SIGSTOP)
            time.sleep(1.3)
            os.kill(run.guard, signal.SIGCONT)
            time.sleep(0.5)
        assert run.end() == 1, run.said
        assert "overloaded" in run.said
        assert run.events("aborted")
        trial.given_back(within=1)


def test_nobody_reads_what_it_prints(trial: Trial) -> None:
    reader, writer = os.pipe()
    with trial.up(duration="20s", output=writer) as run:
        os.close(writer)
        run.until(lambda: run.committed().sample > 20, "it samples")
        safe = run.committed()
        os.close(reader)
        run.main.wait(10)
        trial.given_back(within=1)
        assert_holds(run.recording, safe)
        assert run.events("restored")
