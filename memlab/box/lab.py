"""`memlab up --box`: a lab in a box, watched from outside as if it ran here.

The command inside prints only what happens, and its outcome as JSON; the table of the VMs, the
verdict and the report are drawn out here, from the recording that comes out while it is written:
an emulated CPU has better things to do.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from memlab.box import cache, machine, recipe
from memlab.box.build import up_to_date
from memlab.box.client import Running, Streams, environment
from memlab.box.here import shareable
from memlab.box.mirror import Landing
from memlab.box.qemu import Hardware
from memlab.errors import AdmissionError, RecordingError
from memlab.kernel.files import HOST, parse_names, read_bytes
from memlab.lab.admission import HOST_FLOOR
from memlab.lab.load import Loaded
from memlab.lab.place import RECORDING
from memlab.lab.session import Watcher
from memlab.record.derive import Derived
from memlab.units import MIB, format_size
from memlab.vm.accel import accelerator

OWN_MEMORY: Final = 256 * MIB
"""What the box's kernel, agent and page cache take besides the lab and the floor that memlab
leaves to any host."""
STEP: Final = 256 * MIB
"""Sizes of boxes are multiples of this, so that labs share saved states."""
SLOW: Final = 2.0
"""By what a lab's times are multiplied where the CPU is emulated."""
OUTSIDE_MEMORY: Final = 384 * MIB
"""Of QEMU itself: translated code, caches of its disks."""
_SHOW_SECONDS: Final = 0.5
_SHOW_SHARE: Final = 0.05
"""Largest part of one core that reading the recording for the table may take."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """How a lab is to run in a box. `words` are the options that `up` gets inside."""

    words: tuple[str, ...]
    release: str
    accelerator: str
    time_scale: float | None


@dataclass(slots=True)
class Ran:
    """What came of it: the status, and the outcome as JSON if it came that far."""

    status: int
    out: bytes = b""

    @property
    def outcome(self) -> dict[str, Any] | None:
        """What `up` answered; None if it did not."""
        try:
            found = json.loads(self.out)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None


def memory_for(loaded: Loaded) -> int:
    """Memory of a box for this lab, bytes: its budget, the host's floor, and the box's own."""
    wanted = loaded.lab.host.memory + HOST_FLOOR + OWN_MEMORY
    return -(-wanted // STEP) * STEP


def run_lab(
    loaded: Loaded, lab: str, wish: Wish, watcher: Watcher | None, *, variable: str, say: Say
) -> Ran:
    """Run the lab in a box until it ends. `lab` is as it was named, `watcher` shows it.

    Without a watcher what the command prints is printed (`--dry-run`). `variable` is the name of
    the one that hands the lab file's variables on. Errors as of the box; those of the lab are
    printed by the command inside, and are in its status.
    """
    folder = shareable(_folder(loaded))
    hardware = Hardware(accelerator(wish.accelerator), memory_for(loaded))
    _admit(hardware)
    scale = wish.time_scale or (1.0 if hardware.accelerator == "kvm" else SLOW)
    box = up_to_date(recipe.Release(wish.release), say=say)
    told = machine.told(box, hardware) | {variable: json.dumps(dict(loaded.variables))}
    words = ["memlab", "up", _name_inside(loaded, lab), *wish.words, f"--time-scale={scale:g}"]
    with (
        cache.locked(wish.release, alone=False),
        machine.start(box, hardware, share=folder, say=say) as started,
        tempfile.TemporaryFile() as typed,
    ):
        typed.write(loaded.source.encode())
        typed.seek(0)
        stdin = typed.fileno() if lab == "-" else None
        ran = Ran(1)
        landing = Landing(folder)
        if watcher is None:
            streams = Streams(lambda data: _print(sys.stdout, data), _to_stderr, stdin)
            running = Running(started, streams, landing=landing)
        else:
            shown = _Shown(watcher, folder, _runs(loaded, folder))
            streams = Streams(lambda data: _keep(ran, data), shown.note, stdin)
            words += ["--notes", "--format=json"]
            running = Running(started, streams, landing=landing, idle=shown.draw)
        ran.status = running.run(words, cwd=folder, env=environment(told))
    return ran


def _folder(loaded: Loaded) -> Path:
    """The folder that goes into the box, and in which the lab's own will be."""
    if _is_bundled(loaded) or loaded.name == "stdin":
        return Path.cwd()
    return Path(loaded.name).absolute().parent


def _is_bundled(loaded: Loaded) -> bool:
    return Path(loaded.name).resolve().parent == Path(__file__).parents[1].resolve() / "vmspecs"


def _name_inside(loaded: Loaded, lab: str) -> str:
    """A bundled lab by its name, any other by its file in the shared folder."""
    if lab == "-":
        return lab
    return Path(loaded.name).stem if _is_bundled(loaded) else Path(loaded.name).name


def _runs(loaded: Loaded, folder: Path) -> Path:
    return folder / f"{loaded.lab.name}.memlab" / "runs"


def _admit(hardware: Hardware) -> None:
    """AdmissionError if the box would leave this host short of memory."""
    wanted = hardware.memory + OUTSIDE_MEMORY
    available = parse_names(read_bytes(HOST.proc / "meminfo") or b"").get("MemAvailable")
    if available is not None and wanted > available:
        raise AdmissionError(
            f"the box takes {format_size(wanted)} of memory at most, and "
            f"{format_size(available)} are available",
            hint="take a smaller host.memory, or end what uses this machine's memory",
        )


def _print(stream: Any, data: bytes) -> None:
    stream.buffer.write(data)
    stream.flush()


def _to_stderr(data: bytes) -> None:
    _print(sys.stderr, data)


def _keep(ran: Ran, data: bytes) -> None:
    ran.out += data


@dataclass(slots=True)
class _Shown:
    """The running lab for a person: lines from inside, values from the recording out here."""

    watcher: Watcher
    folder: Path
    runs: Path
    known: frozenset[Path] = field(init=False)
    due: float = 0.0
    text: bytes = b""

    def __post_init__(self) -> None:
        self.known = frozenset(self.runs.glob("*"))

    def note(self, data: bytes) -> None:
        *lines, self.text = (self.text + data).split(b"\n")
        for line in lines:
            self.watcher.note(line.decode(errors="replace"))

    def draw(self) -> None:
        """Show the newest values, if it is time again."""
        began = time.monotonic()
        if began < self.due:
            return
        fresh = [run for run in self.runs.glob("*") if run not in self.known]
        if fresh:
            self._draw(max(fresh) / RECORDING)
        self.due = time.monotonic() + max(_SHOW_SECONDS, (time.monotonic() - began) / _SHOW_SHARE)

    def _draw(self, recording: Path) -> None:
        """From a copy: SQLite would not see that the file has grown behind its back."""
        with tempfile.TemporaryDirectory(prefix="memlab-") as made:
            copy = Path(made) / RECORDING
            try:
                for end in ("", "-wal"):
                    source = recording.with_name(recording.name + end)
                    if source.exists():
                        shutil.copyfile(source, f"{copy}{end}")
                with Derived.open(copy, check=False) as derived:
                    derived.refresh()
                    self.watcher.update(derived, _newest(derived), "in the box")
            except (RecordingError, OSError):
                return  # its first lines are still on their way


def _newest(derived: Derived) -> float:
    """When the newest sample of the run ended, seconds since it began."""
    (row,) = derived.recording.rows("SELECT coalesce(max(ended), 0) FROM sample")
    return float(row[0]) / 1e6
