"""The lab file as a model: what may be written, what it means, its units and defaults.

`LabFile` is the file as written, with `defaults`, `groups` and counted `vms`; `Lab` is what it
comes to: every VM by itself. Both share their fields, so the schema, the reference and the checks
are made from one model; `vmspec.py` has what is said of a VM. Inside, sizes are bytes, durations
seconds, percentages fractions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from memlab.kernel.finding import Feature
from memlab.kernel.network import Seat
from memlab.lab.activespec import Active, Pressure, switched
from memlab.lab.values import (
    Amount,
    Argv,
    Duration,
    Name,
    Percent,
    Period,
    Size,
    SizeOrPercent,
    Switch,
    Text,
    at_least,
    not_below,
    refuse,
)
from memlab.lab.vmspec import (
    MAX_VMS,
    ContentSpec,
    ImageSpec,
    Spec,
    User,
    VmEntry,
    VmFields,
    VmSpec,
    WorkloadSpec,
    named,
)
from memlab.units import MIB

__all__ = [
    "MAX_VMS", "SCHEMA_VERSION", "Active", "BalloonSettings", "Compression", "ContentSpec",
    "Device", "Exec", "Expect", "Host", "ImageSpec", "Lab", "LabFile", "Mechanisms",
    "PolicySettings", "Pressure", "Reporting", "Sampling", "Step", "Swap", "SwapSettings", "Tps",
    "User", "VmEntry", "VmFields", "VmSpec", "Window", "WorkloadSpec",
]  # fmt: skip

SCHEMA_VERSION: Final = 1


class Device(StrEnum):
    """What the lab's own swap is made of."""

    FILE = "file"
    ZRAM = "zram"


class Swap(Spec):
    """The lab's own swap area, made for the run and removed after it."""

    size: Size = Field(description="Size of the swap area, bytes with a suffix.")
    device: Device = Field(default=Device.FILE, description="A file on a disk, or a zram device.")
    path: Text | None = Field(
        default=None, description="Directory of the swap file; the default is found by memlab."
    )


class Host(Spec):
    """What the VMs may use of the host, all together."""

    memory: Annotated[Size, at_least(4 * MIB)] = Field(
        description="The host budget: machine memory that all VMs may use together."
    )
    swap: Swap | None = Field(default=None, description="The lab's own swap area; none without it.")


class Tps(Spec):
    """Transparent page sharing: KSM merges pages of equal content."""

    enabled: Switch = Field(default=True, description="Whether KSM runs.")
    pages_to_scan: int = Field(
        default=1000, ge=1, le=1_000_000, description="Pages that ksmd looks at in one wake-up."
    )
    sleep: Duration = Field(default=0.02, description="Pause of ksmd between two wake-ups.")
    use_zero_pages: Switch = Field(
        default=False, description="Merge empty pages with the kernel's own zero page."
    )
    max_page_sharing: int | None = Field(
        default=None,
        ge=2,
        le=1_000_000,
        description="Sharers of one frame at most; left alone if absent.",
    )
    smart_scan: Switch = Field(
        default=False,
        description="Skip pages that did not merge lately; equal pages may then never meet.",
    )


class BalloonSettings(Spec):
    """The balloon: the guest is asked for pages it needs least."""

    enabled: Switch = Field(
        default=True, description="Whether a policy or the timeline may use it."
    )
    maximum: Percent = Field(default=0.65, description="Part of a VM's memory it may hold at most.")


class Compression(Spec):
    """zswap: pages on their way to swap are kept compressed in memory."""

    enabled: Switch = Field(default=True, description="Whether zswap takes pages.")
    compressor: Text | None = Field(
        default=None,
        description="The kernel's name of the algorithm, such as lzo; its own choice if absent.",
    )
    pool: SizeOrPercent = Field(
        default=Amount(fraction=0.1),
        description="Machine memory of the compressed copies at most; percent of the host budget.",
    )


class SwapSettings(Spec):
    """The swap device as a mechanism: pages that leave memory altogether."""

    enabled: Switch = Field(default=True, description="Whether pages may be written to the device.")


class Reporting(Spec):
    """Free page reporting: the guest's kernel tells the host which pages it does not use."""

    enabled: Switch = Field(default=False, description="Whether QEMU guests do.")


class Mechanisms(Spec):
    """The four ways to use machine memory twice, each `on`, `off` or a map of settings."""

    tps: Annotated[Tps, BeforeValidator(switched)] = Field(
        default_factory=Tps, description="Page sharing (KSM)."
    )
    balloon: Annotated[BalloonSettings, BeforeValidator(switched)] = Field(
        default_factory=BalloonSettings, description="Ballooning."
    )
    compression: Annotated[Compression, BeforeValidator(switched)] = Field(
        default_factory=Compression,
        description="Compression (zswap); it needs the slots of `host.swap`.",
    )
    swap: Annotated[SwapSettings, BeforeValidator(switched)] = Field(
        default_factory=SwapSettings, description="Swapping to the device of `host.swap`."
    )
    reporting: Annotated[Reporting, BeforeValidator(switched)] = Field(
        default_factory=Reporting,
        description="Free page reporting of QEMU guests; off, so that the ghost can be seen.",
    )


class PolicySettings(Spec):
    """Who decides which VM gives memory up, and by which mechanism."""

    name: Text = Field(
        default="static",
        description="Which, or FILE.py:CLASS of your own; docs/policies.md has them all.",
    )
    period: Annotated[Duration, not_below(0.1)] = Field(
        default=1.0, description="Time between two decisions."
    )
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="The policy's own settings; see docs/policies.md."
    )
    time_scale: Annotated[float, Field(ge=1, le=1000)] = Field(
        default=1.0, description="Divides every published period of a policy."
    )
    size_scale: Annotated[float, Field(ge=1, le=100_000)] = Field(
        default=1.0, description="Divides every published step that is a size."
    )


class Sampling(Spec):
    """How often each tier is read: a period (`250ms`) or a rate (`4Hz`)."""

    fast: Annotated[Period, not_below(0.02)] = Field(
        default=0.25, description="Counters of guest, cgroup and host; 50Hz at most."
    )
    medium: Annotated[Period, not_below(0.1)] = Field(
        default=1.0, description="memory.stat, delays, pressure, latencies."
    )
    deep: Annotated[Period, not_below(0.1)] = Field(
        default=1.0, description="Page tables; stretched so that it takes 5 % of a core at most."
    )


class Window(Spec):
    """A part of the run, in time since it began."""

    start: Duration = Field(alias="from", description="Its begin.")
    until: Duration = Field(description="Its end.")


class Exec(Spec):
    """A program that is run beside a VM, in its cgroup."""

    vm: Name = Field(description="In which VM.")
    command: Argv = Field(description="The program and its arguments.")


class Step(Spec):
    """Something that is done at a time, or when a condition becomes true."""

    at: Duration | None = Field(default=None, description="Time since the run began.")
    when: Text | None = Field(default=None, description="A condition on the latest values.")
    once: Switch = Field(
        default=True, description="With `when`: the first time only, or each time."
    )
    cooldown: Duration = Field(
        default=5.0, description="With `once: off`: time between two of them."
    )
    set: dict[str, JsonValue] = Field(
        default_factory=dict, description="Paths that can be set, and their new values."
    )
    exec: Exec | None = Field(default=None, description="A program to run in a VM.")
    migrate: Name | None = Field(
        default=None, description="A QEMU VM to move to a second QEMU on this host."
    )
    mark: Text | None = Field(default=None, description="A label on every chart.")
    verify: Switch = Field(
        default=False, description="Check the content of every application page."
    )

    @model_validator(mode="after")
    def _one_trigger(self) -> Self:
        if (self.at is None) == (self.when is None):
            both = "both at and when" if self.at is not None else "neither at nor when"
            raise refuse("either", f"this step has {both}", "give it one of the two")
        if not (self.set or self.exec or self.migrate or self.mark or self.verify):
            fix = "give it set, exec, migrate, mark or verify"
            raise refuse("either", "this step does nothing", fix)
        return self


class Expect(Spec):
    """A condition on what was measured; one that does not hold makes `up` exit 1."""

    name: Text = Field(description="What it is called in the verdict.")
    that: Text = Field(description="The condition; see docs/conditions.md.")
    within: Duration | None = Field(
        default=None, description="Look from the begin of the run to this time, not at the window."
    )
    passed: Text | None = Field(default=None, alias="pass", description="Said when it holds.")
    failed: Text | None = Field(default=None, alias="fail", description="Said when it does not.")


class LabFields(Spec):
    """What the file as written and the resolved lab have in common."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, description="Version of this format.")
    name: Name = Field(description="Name of the lab.")
    about: Text | None = Field(default=None, description="What it shows: the question.")
    seed: int = Field(
        default=1, ge=0, lt=2**63, description="Decides all page contents and accesses."
    )
    host: Host = Field(description="What the VMs may use of the host.")
    mechanisms: Mechanisms = Field(
        default_factory=Mechanisms, description="What may be used, and how."
    )
    policy: Annotated[PolicySettings, BeforeValidator(named)] = Field(
        default_factory=PolicySettings, description="Who decides: its name, or a map."
    )
    network: Switch = Field(
        default=False,
        description="A network of the lab's own, for QEMU VMs and programs; it leads nowhere else.",
    )
    active: Annotated[Active, BeforeValidator(switched)] = Field(
        default_factory=Active, description="The estimate of active memory, in VMs with an agent."
    )
    sample: Sampling = Field(default_factory=Sampling, description="How often is read.")
    duration: Annotated[Duration, not_below(1)] = Field(
        default=60.0, description="Length of the run."
    )
    window: Window | None = Field(
        default=None, description="The measured window; the second half of the run if absent."
    )
    baseline: Window | None = Field(
        default=None, description="The phase without pressure, against which cost is measured."
    )
    timeline: tuple[Step, ...] = Field(default=(), description="What is done, and when.")
    expect: tuple[Expect, ...] = Field(default=(), description="What must have been measured.")
    needs: tuple[Feature, ...] = Field(
        default=(),
        description="What the host must have, by doctor's names; `up` exits 3 otherwise.",
    )


class LabFile(LabFields):
    """A memlab lab file."""

    defaults: VmFields = Field(default_factory=VmFields, description="Settings of every VM.")
    groups: dict[Name, VmFields] = Field(
        default_factory=dict, description="Named settings, for the VMs that name them."
    )
    vms: dict[Name, VmEntry] = Field(
        min_length=1, description="The VMs by name. A VM wins over its group, that over defaults."
    )


class Lab(LabFields):
    """A lab with every VM by itself, ready to run."""

    vms: tuple[VmSpec, ...]

    @property
    def configured(self) -> int:
        """Sum of the configured sizes, bytes."""
        return sum(vm.memory for vm in self.vms)

    @property
    def overcommitment(self) -> float:
        """Sum of configured sizes ÷ host budget."""
        return self.configured / self.host.memory

    @property
    def measured(self) -> tuple[float, float]:
        """The measured window, seconds: as written, or the second half of the run."""
        if self.window is None:
            return self.duration / 2, self.duration
        return self.window.start, self.window.until

    @property
    def pool(self) -> int:
        """Cap of the compressed pool, bytes; 0 if compression is off."""
        settings = self.mechanisms.compression
        return settings.pool.of(self.host.memory) if settings.enabled else 0

    @property
    def seats(self) -> dict[str, Seat]:
        """Places on the lab's network by VM: those of QEMU VMs and of programs."""
        if not self.network:
            return {}
        numbered = enumerate(self.vms, start=1)
        return {vm.name: Seat(number) for number, vm in numbered if vm.can_network}

    def members(self, target: str) -> tuple[VmSpec, ...]:
        """VMs that `target` means: one by its name, those of an entry or a group, or all (`*`)."""
        return tuple(
            vm for vm in self.vms if target in ("*", vm.name, vm.entry, vm.group or vm.name)
        )
