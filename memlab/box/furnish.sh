#!/bin/sh
# Makes the Debian in the folder $1 a system for Vagrant: puts what is in $2 over it, then the user,
# the services and the boot loader. Run by `memlab box build --vagrant`, as root of the tree.
# UNITS and QUIET are the services that start by themselves, and that do not; GRUB_MODULES are the
# boot loader's.
set -eu
tree=$1
ours=$2

in_tree() { chroot "$tree" "$@"; }

cp -R --remove-destination --preserve=mode,timestamps "$ours/." "$tree/"
chmod 440 "$tree/etc/sudoers.d/vagrant"

in_tree useradd --create-home --shell /bin/bash --password '*' vagrant
in_tree install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
in_tree install -m 600 -o vagrant -g vagrant /root/vagrant.pub /home/vagrant/.ssh/authorized_keys
rm "$tree/root/vagrant.pub"
rm -f "$tree"/etc/ssh/ssh_host_*

# shellcheck disable=SC2086 # lists of names
in_tree systemctl --quiet enable $UNITS
# shellcheck disable=SC2086
in_tree systemctl --quiet mask $QUIET
ln -sf ../run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"
: >"$tree/etc/machine-id"

# shellcheck disable=SC2086
in_tree grub-mkimage --format=i386-pc --prefix='(hd0,msdos1)/boot/grub' \
  --output=/boot/grub/core.img $GRUB_MODULES
cp "$tree/usr/lib/grub/i386-pc/boot.img" "$tree/boot/grub/boot.img"
chmod a+r "$tree/boot/grub/boot.img" "$tree/boot/grub/core.img"
