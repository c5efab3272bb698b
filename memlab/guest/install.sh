#!/bin/sh
# Lets this machine start memlab's guest agent at boot: mount the drive, then `sh DRIVE/install`.
# `sh DRIVE/install ROOT` does it for the system whose root file system is mounted at ROOT.
#
# Only the start is installed. The agent itself is run from the drive that memlab gives its guests,
# so it always is the one of the memlab that asks it; without that drive nothing is started.
set -eu
root=${1:-}
start=/usr/local/sbin/memlab-agent-start
mkdir -p "$root/usr/local/sbin"
cat >"$root$start" <<'END'
#!/bin/sh
# Starts memlab's guest agent from its drive; does nothing in a machine that has none.
drive=$(findfs LABEL=MEMLAB 2>/dev/null) || exit 0
mkdir -p /run/memlab-drive
mount -t iso9660 -r "$drive" /run/memlab-drive || exit 1
exec /run/memlab-drive/memlab-agent --port
END
chmod 755 "$root$start"

if [ -d "$root/etc/systemd/system" ]; then
  cat >"$root/etc/systemd/system/memlab-agent.service" <<END
[Unit]
Description=Guest agent of memlab
[Service]
ExecStart=$start
[Install]
WantedBy=multi-user.target
END
  mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
  ln -sf ../memlab-agent.service "$root/etc/systemd/system/multi-user.target.wants/"
  echo "memlab's agent starts with multi-user.target"
elif [ -d "$root/etc/runlevels/default" ]; then
  cat >"$root/etc/init.d/memlab-agent" <<END
#!/sbin/openrc-run
description="Guest agent of memlab"
command=$start
command_background=true
pidfile=/run/memlab-agent.pid
END
  chmod 755 "$root/etc/init.d/memlab-agent"
  ln -sf /etc/init.d/memlab-agent "$root/etc/runlevels/default/memlab-agent"
  echo "memlab's agent starts in the runlevel default"
else
  echo "let this run at boot, as root: $start &"
fi
