#!/bin/sh
# Installs memlab in this machine from the checkout in the folder $1 (/srv/memlab). Run as root, as
# often as one likes, by the Vagrantfile and by lima.yaml.
#
# In a box of `memlab box build --vagrant` everything is there, so that no network is needed: only
# memlab's own files are renewed, if the checkout has others. Elsewhere (Debian 12 or newer, Ubuntu
# 24.04 or newer) what is missing is installed with apt, and memlab with pip in /opt/memlab.
set -eu
checkout=${1:-/srv/memlab}
home=/opt/memlab
box=/usr/local/share/memlab/box

say() { printf 'memlab: %s\n' "$*"; }
stop() {
  say "$*" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || stop "run this as root"
[ -f "$checkout/pyproject.toml" ] || stop "there is no checkout of memlab in $checkout"

# Where the box has memlab; nothing elsewhere.
in_box() {
  ! [ -f "$box" ] || find /usr/local/lib -maxdepth 3 -path '*/dist-packages/memlab' -type d
}

# Whether the libraries that the checkout requires are those that the box was built with.
same_libraries() {
  /usr/bin/python3 - "$checkout/pyproject.toml" <<'END'
import pathlib, re, sys, tomllib
from importlib import metadata
wanted = tomllib.loads(pathlib.Path(sys.argv[1]).read_text())["project"]["dependencies"]
there = [line for line in metadata.requires("memlab") or [] if "extra ==" not in line]
bare = lambda lines: {re.sub("[-_.]", "-", line.replace(" ", "")) for line in lines}
sys.exit(bare(wanted) != bare(there))
END
}

differs() { ! diff -rq -x __pycache__ -x _bin "$1" "$2" >/dev/null; }

# Puts the checkout's files in the place of the box's $1, whose agent stays: its sources are equal.
renew() {
  new=$1.new
  rm -rf "$new" "$1.old"
  mkdir "$new"
  tar -C "$checkout/memlab" --exclude=__pycache__ --exclude=./_bin -cf - . |
    tar -C "$new" --no-same-owner -xf -
  cp -R "$1/_bin" "$new/_bin"
  touch "$new/_bin/memlab-agent" # newer than its sources
  mv "$1" "$1.old"
  mv "$new" "$1"
  rm -rf "$1.old"
  /usr/bin/python3 -m compileall -q "$1"
}

# apt's packages that are missing here.
missing() {
  command -v cc >/dev/null || printf '%s ' gcc libc6-dev
  python3 -c 'import ensurepip, venv' 2>/dev/null || printf '%s ' python3-venv
}

with_network() {
  packages=$(missing)
  if [ -n "$packages" ]; then
    command -v apt-get >/dev/null || stop "install these and try again: $packages"
    say "installing $packages"
    apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages \
      </dev/null >/dev/null
  fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    stop "Python 3.11 or newer is missing: take Debian 12, Ubuntu 24.04 or newer"
  say "installing memlab and its libraries in $home"
  source=$(mktemp -d)
  trap 'rm -rf "$source"' EXIT
  # The agent is compiled beside its sources, and the checkout may be there to be read only.
  tar -C "$checkout" --exclude=./.git --exclude=./.venv --exclude=./memlab/_bin \
    --exclude=__pycache__ -cf - . | tar -C "$source" --no-same-owner -xf -
  [ -x "$home/bin/pip" ] || python3 -m venv --clear "$home"
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "$source"
  ln -sf "$home/bin/memlab" /usr/local/bin/memlab
}

there=$(in_box)
if [ -z "$there" ] || differs "$checkout/memlab/guest/agent" "$there/guest/agent" ||
  ! same_libraries; then
  with_network
elif differs "$checkout/memlab" "$there"; then
  say "renewing memlab in the box"
  renew "$there"
else
  say "the box has this memlab already"
fi
/usr/local/bin/memlab version
