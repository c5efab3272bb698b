"""What a box is made of. Change one of these and the layer that it is in is made anew."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

VERSION: Final = 1
"""Raised when the way of making a layer changes, though its parts do not."""


class Release(StrEnum):
    """Debian's releases that a box can be made of."""

    TRIXIE = "trixie"  # Linux 6.12: cgroup v2 alone, MGLRU, DAMON
    BOOKWORM = "bookworm"  # Linux 6.1: cgroup v1 too


DEFAULT: Final = Release.TRIXIE


@dataclass(frozen=True, slots=True)
class Needed:
    """A command that builds or runs a box, and Debian's package of it."""

    command: str
    package: str


MMDEBSTRAP: Final = Needed("mmdebstrap", "mmdebstrap")
QEMU: Final = Needed("qemu-system-x86_64", "qemu-system-x86")

PACKAGES: Final = (
    *("base-files", "bash", "busybox-static", "coreutils", "diffutils", "dash", "findutils"),
    *("e2fsprogs", "erofs-utils", "gawk", "grep", "gzip", "hostname", "iproute2", "kmod"),
    *("libc-bin", "less", "linux-image-amd64", "mount", "ncurses-base", "procps", "psmisc"),
    *("python3", "sed", "sqlite3", "tar", "tmux", "util-linux", "xz-utils", "zstd"),
)
"""Of the root filesystem. Their scripts are not run: an init of our own needs nothing of them."""

BOOT_MODULES: Final = (
    *("virtio_pci", "virtio_console", "virtio_blk", "crc32c_generic", "erofs", "overlay"),
)
"""Loaded before there is a root, in this order; erofs asks for crc32c by name."""
MODULES: Final = (
    *("ext4", "9p", "9pnet_virtio", "virtio_balloon", "loop", "zram", "zsmalloc", "zbud"),
    *("z3fold", "lz4", "lz4hc", "lz4_compress", "lz4hc_compress", "zstd", "lzo", "lzo-rle"),
    *("deflate", "842", "842_compress", "libcrc32c", "tun", "bridge", "veth"),
)
"""Of the kernel's, those that a lab may want, with all that they depend on."""

COMMAND_LINE: Final = (
    "console=ttyS0 quiet panic=-1 nokaslr mitigations=off no_timer_check tsc=reliable "
    "random.trust_cpu=on cryptomgr.notests audit=0 apparmor=0 8250.nr_uarts=1 nowatchdog "
    "rcupdate.rcu_expedited=1 init_on_alloc=0 clearcpuid=erms,fsrm,rep_good"
)
"""A box lives seconds and holds nobody's secrets; each of these is time saved. The last: where
they are emulated, string instructions clear a page several times slower than plain stores do."""

SCRATCH_BYTES: Final = 16 << 30
"""Size of the disk for swap files and what commands write; sparse, and gone with the box."""

BOOT_SCRIPT: Final = """\
#!/bin/busybox sh
# Before there is a root: modules, then three read-only layers under one that is memory.
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
while read -r module; do $b insmod "/modules/$module"; done </modules/order
i=0
while [ ! -b /dev/vdd ] && [ $i -lt 200 ]; do $b sleep 0.02; i=$((i + 1)); done
$b mkdir -p /base /deps /memlab /rw /root
$b mount -t erofs -o ro /dev/vda /base
$b mount -t erofs -o ro /dev/vdb /deps
$b mount -t erofs -o ro /dev/vdc /memlab
$b mount -t tmpfs -o mode=755 rw /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/memlab:/deps:/base,upperdir=/rw/upper,workdir=/rw/work root /root
$b mount --move /dev /root/dev
$b mount --move /proc /root/proc
$b mount --move /sys /root/sys
exec $b switch_root /root /usr/lib/memlab-box/init
"""

INIT_SCRIPT: Final = """\
#!/bin/busybox sh
# The box's first process: mounts, the agent, and when that has ended the end.
b=/bin/busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
$b mount -t tmpfs -o mode=755 run /run
$b mount -t tmpfs -o mode=1777 tmp /tmp
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
$b mount -t tmpfs -o mode=1777 shm /dev/shm
$b mount -t debugfs debugfs /sys/kernel/debug
if $b grep -q memlab.cgroup=v1 /proc/cmdline; then
  $b mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for controller in memory cpu,cpuacct freezer pids; do
    $b mkdir "/sys/fs/cgroup/$controller"
    $b mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"
  done
  $b mkdir /sys/fs/cgroup/unified
  $b mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
else
  $b mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
$b hostname memlab-box
# What is mounted after a start from the saved state is in it already.
modprobe -a ext4 9p 9pnet_virtio overlay zram tun
$b ip link set lo up
$b sysctl -qw vm.swappiness=60 kernel.printk="3 3 1 3"
# ksmd gives way to everything (nice 5); with one processor, an emulated one, it would hardly run.
$b renice -n -5 -p "$(pgrep -x ksmd)"
port=/dev/$(cd /sys/class/virtio-ports && $b grep -l memlab */name | $b cut -d/ -f1)
python3 -m memlab.box.agent "$port"
$b poweroff -f
"""

PASSWD: Final = (
    "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
)
GROUP: Final = "root:x:0:\ntty:x:5:\ndisk:x:6:\nnogroup:x:65534:\n"
