"""What a box for Vagrant is made of: a Debian with systemd, sshd and sudo, as Vagrant wants it."""

from __future__ import annotations

from typing import Final

from memlab.box.recipe import Needed

NEEDED: Final = (
    Needed("mmdebstrap", "mmdebstrap"),
    Needed("mke2fs", "e2fsprogs"),
    Needed("qemu-img", "qemu-utils"),
)
"""Of this machine, to build it; all else is the guest's own."""

PACKAGES: Final = (
    *("systemd", "systemd-sysv", "systemd-resolved", "dbus", "udev", "init", "login", "passwd"),
    *("openssh-server", "sudo", "rsync", "linux-image-amd64", "initramfs-tools", "zstd"),
    *("grub-pc-bin", "grub-common", "e2fsprogs", "iproute2", "kmod", "less", "nano", "procps"),
    *("ca-certificates", "python3", "python3-venv", "sqlite3", "tmux", "util-linux"),
)
LEFT_OUT: Final = ("doc", "info", "locale", "man")
"""Folders of /usr/share that the guest is made without."""

DISK_MIB: Final = 10 * 1024
"""Size of the guest's disk, which is sparse: a lab's swap files need room."""
LABEL: Final = "memlab"
"""Of the root filesystem: the disk's name is another one for each provider."""

COMMAND_LINE: Final = f"root=LABEL={LABEL} ro quiet net.ifnames=0 console=tty0 console=ttyS0"

GRUB_MODULES: Final = ("biosdisk", "part_msdos", "ext2", "linux", "normal", "echo", "test")
GRUB_CONFIG: Final = f"""\
# The kernel that Debian's package names; a new one is taken without a change here.
linux /vmlinuz {COMMAND_LINE}
initrd /initrd.img
boot
"""

EARLY_FILES: Final = {
    "etc/initramfs-tools/conf.d/memlab": "MODULES=list\nCOMPRESS=zstd\n",
    "etc/initramfs-tools/hooks/memlab": """\
#!/bin/sh
# Drivers of the disks that libvirt, VirtualBox and QEMU give; the rest is loaded from the root.
[ "${1:-}" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk virtio_scsi sd_mod ahci ata_piix nvme ext4
""",
}
"""Of the guest, before its packages are configured; those in `hooks` are executable."""

# The key that Vagrant knows of every new box, and replaces by one of its own at the first `up`.
INSECURE_KEY: Final = (
    "ssh-rsa "
    "AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2Y"
    "J6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4"
    "O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYS"
    "dETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ=="
    " vagrant insecure public key\n"
)

FILES: Final = {
    "etc/hostname": "memlab\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 memlab\n::1 localhost\n",
    "etc/fstab": f"LABEL={LABEL} / ext4 rw,noatime 0 1\n",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/sudoers.d/vagrant": "vagrant ALL=(ALL) NOPASSWD: ALL\n",
    "etc/systemd/network/20-dhcp.network": (
        "[Match]\nName=eth* en*\n\n[Network]\nDHCP=ipv4\n\n[DHCPv4]\nClientIdentifier=mac\n"
    ),
    # Each machine has host keys of its own: they are made at its first start.
    "etc/systemd/system/ssh.service.d/keys.conf": (
        "[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\n"
        "ExecStartPre=/usr/sbin/sshd -t\n"
    ),
    "etc/ssh/sshd_config.d/memlab.conf": "UseDNS no\nPasswordAuthentication no\n",
    "boot/grub/grub.cfg": GRUB_CONFIG,
    "usr/local/share/memlab/box": "made by memlab box build --vagrant\n",
}
"""Of the guest, besides its packages and memlab."""

UNITS: Final = ("ssh.service", "systemd-networkd.service", "systemd-resolved.service")
"""That start by themselves."""
QUIET: Final = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("dpkg-db-backup.timer", "systemd-networkd-wait-online.service", "e2scrub_reap.service"),
)
"""That do not: nothing but the lab is to move memory, and the first start is to be short."""

METADATA_FORMAT: Final = "qcow2"
BOX_VAGRANTFILE: Final = """\
# Of the box: what its image needs, whatever the project's own Vagrantfile says besides.
Vagrant.configure("2") do |config|
  config.vm.synced_folder ".", "/vagrant", disabled: true
  config.vm.provider :libvirt do |libvirt|
    libvirt.disk_bus = "virtio"
    libvirt.nic_model_type = "virtio"
  end
end
"""
