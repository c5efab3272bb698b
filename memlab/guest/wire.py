"""The names of the guest agent's protocol, for both kinds of VM.

**JSON lines** on one stream (a socketpair for a process VM, a virtio-serial port in QEMU), one
object a line, at most 64 KiB. The host sends commands, each with an `id` of its choice:

    {"id":1,"cmd":"boot","memory":268435456,"seed":7,"owner":3,"mergeable":true,"huge":false,
     "image":{"name":"debian","size":41943040,"zero":0.2,"common":0.6,"compressible":3}}
    {"id":2,"cmd":"workload","name":"keyvalue","size":167772160,
     "content":{"zero":0.0,"common":0.0,"compressible":3},"args":{"zipf":0.99,"writes":0.1}}
    {"id":3,"cmd":"balloon","target":67108864}     {"id":4,"cmd":"stats"}
    {"id":5,"cmd":"free","size":8388608}           {"id":6,"cmd":"verify"}
    {"id":7,"cmd":"sample","pages":100,"period":2.0}      {"id":8,"cmd":"stop"}

The agent answers each with the same `id` and `"ok":true` (and what was asked for), or
`"ok":false,"error":"…"`. Between answers it may send events: `{"event":"balloon","ballooned":…}`
when the balloon has reached its target or can go no further (`"stuck":true`), and
`{"event":"out-of-memory","asked":…}` when an application could get no frame (at most one a second),
`{"event":"bad-page","page":…,"frame":…,"class":…}` when an operation read what should not stand
there, `{"event":"guest-swap-error","slot":…}`. Sizes are bytes, `page` and `frame` are numbers.

`boot` in a lab with a network also has `"network":{"address":"10.0.0.3","prefix":16,"mac":"02:…"}`,
and `{"id":9,"cmd":"ping","address":"10.0.0.1"}` tells the `seconds` until that one has answered.
`workload` may have `"command":["redis-server","--port","7000"]`, in a guest that has programs: that
one is started, and its end is the event `{"event":"program-ended","why":"exited 1","last":"…"}`.
`sample` starts the estimate of active memory: so many random frames are watched for so many
seconds, again and again (0 pages end it). `stats` answers the fields of the board by name, and
`workload`, `phase` (fill, run, pause, no-memory), `p50_ns`, `p99_ns`, `p999_ns` of the running
workload. `verify` is answered when it is done:
`checked`, `bad` (pages), `first_bad` (null or of, page, frame (null: in guest swap), class)
and `inconsistent` (null, or what does not agree in the guest's own tables).

**The board** (process VMs): a memory file that the agent maps shared and only it writes, so that
the sampler reads its counters and its list of frames without disturbing it, whatever the agent is
doing. Little-endian: the header of BOARD_HEADER, then BOARD_FIELDS as u64, then the latency
histogram (HISTOGRAM_BUCKETS × u64, cumulative), then from FRAME_MAP_OFFSET one byte a guest frame:
1 = touched and not given back to the host (with `huge` the host backs more than was touched).
`sequence` is odd while the counters are written. A guest that sleeps publishes nothing: its
`published_ns` stands still because its counters do.
`tests/unit/test_wire.py` holds the C header against this file.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Final

MAX_LINE: Final = 65536
"""Longest line of the protocol, bytes."""

BOARD_MAGIC: Final = 0x6472616F62626C6D  # "mlbboard", little-endian
BOARD_VERSION: Final = 2
BOARD_HEADER: Final = struct.Struct("<QIIQ")
"""magic, version, number of frames, sequence."""

BOARD_FIELDS: Final = (
    "published_ns",  # CLOCK_BOOTTIME of this publication
    "configured_pages",  # guest physical memory
    "used_pages",  # image + applications (their frames, not their swapped pages)
    "cache_pages",  # clean page cache
    "free_pages",  # free list
    "ballooned_pages",  # held by the balloon driver
    "reserved_pages",  # kept back at boot: frame table, page tables
    "balloon_target_pages",
    "balloon_backed_pages",  # of the ballooned ones: those that the host backed when taken
    "balloon_inflated",  # pages, cumulative
    "balloon_deflated",  # pages, cumulative
    "app_mapped_pages",  # virtual pages that applications have mapped
    "app_touched_pages",  # of these: written or read at least once
    "guest_swap_pages",  # application pages in the guest's own swap file
    "guest_swap_in",  # pages, cumulative
    "guest_swap_out",  # pages, cumulative
    "cache_read",  # pages read from the guest's disk into its page cache, cumulative
    "cache_evicted",  # clean pages dropped, cumulative
    "operations",  # of the workload, cumulative
    "writes",  # operations that wrote, cumulative
    "operation_ns",  # time spent in operations, cumulative
    "out_of_memory",  # allocations that failed, cumulative
    "minor_faults",  # getrusage of the agent, cumulative
    "major_faults",
    "bad_pages",  # found by the last verify
    "working_set_pages",  # ground truth: what the workload uses now
    "zero_pages",  # in frames now, all zero: KSM could merge them with the zero page
    "common_pages",  # in frames now, equal in all VMs of this image and content
    "active_pages",  # estimate of what is in use: the largest of three averages (sample.c)
    "active_slow_pages",
    "active_fast_pages",
    "sample_periods",  # periods that the estimator has finished
    "sample_pages",  # frames watched in them
    "sample_touched",  # of these: used within their period
)
"""Counters of the board, u64 each, in this order."""

ABSENT: Final = 2**64 - 1
"""In a field of the board: not known, as most are of a guest without an agent."""

HISTOGRAM_BUCKETS: Final = 280
"""Eight buckets an octave of nanoseconds: n < 8 → n, else (e − 2)·8 + (n >> (e − 3)) % 8, where
e = floor(log2 n). The last one begins at 129 s; a bucket is at most 12.5 % wide."""

COUNTERS_OFFSET: Final = BOARD_HEADER.size
HISTOGRAM_OFFSET: Final = COUNTERS_OFFSET + 8 * len(BOARD_FIELDS)
FRAME_MAP_OFFSET: Final = 4096

assert HISTOGRAM_OFFSET + 8 * HISTOGRAM_BUCKETS <= FRAME_MAP_OFFSET


def board_size(frames: int) -> int:
    """Bytes of the board of a VM with `frames` guest frames."""
    return FRAME_MAP_OFFSET + frames


def bucket_of(nanoseconds: int) -> int:
    """Histogram bucket in which a latency is counted."""
    if nanoseconds < 8:
        return nanoseconds
    exponent = nanoseconds.bit_length() - 1
    return min((exponent - 2) * 8 + (nanoseconds >> (exponent - 3)) % 8, HISTOGRAM_BUCKETS - 1)


def bucket_bounds(bucket: int) -> tuple[int, int]:
    """First nanosecond counted in `bucket`, and the first that is not."""
    if bucket < 8:
        return bucket, bucket + 1
    exponent, part = bucket // 8 + 2, bucket % 8
    width = 1 << (exponent - 3)
    return (8 + part) * width, (9 + part) * width


class Workload(StrEnum):
    """What an application of the miniature guest does. `docs/workloads.md` has the settings."""

    IDLE = "idle"
    TOUCHER = "toucher"
    KEYVALUE = "keyvalue"
    SCAN = "scan"
    CACHE = "cache"
    BURST = "burst"
    LEAK = "leak"
