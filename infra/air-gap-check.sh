#!/usr/bin/env bash
# Whether a machine without a network can be given finetune: a bundle of this clone is installed with the system's
# Python alone, an empty home and no network but loopback, and the demo runs there. Needs bubblewrap, git, and about
# 6 GB in DIR.
#
#   infra/air-gap-check.sh DIR             make DIR/finetune.tar unless it is there, install it, run the demo
#   infra/air-gap-check.sh DIR --install   the same without the demo
set -euo pipefail

usage() {
  sed -n '2,7p' "$0" >&2
  exit 2
}

say() { printf '%s\n' "$*" >&2; }

# the machine as it is, read-only, but for the user's home, /tmp and DIR; nothing of the environment
inside() {
  bwrap --unshare-all --die-with-parent --new-session --clearenv \
    --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --tmpfs /home --tmpfs /root --dir /home/user \
    --bind "$folder" /tmp/site --chdir /tmp/site \
    --setenv PATH /usr/bin:/bin --setenv HOME /home/user --setenv LANG C.UTF-8 "$@"
}

timed() {
  local name=$1 started=$SECONDS
  shift
  "$@"
  say "$name: $((SECONDS - started)) s"
}

[[ $# -eq 1 || ($# -eq 2 && $2 == --install) ]] || usage
mkdir -p "$1"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
# first that the jail has no way out, or the rest proves nothing
if inside /usr/bin/python3 -c 'import socket; socket.create_connection(("192.0.2.1", 80), 3)' 2>"$folder/refused"; then
  say "A connection out succeeded, so nothing was checked."
  exit 1
fi
grep -q 'Network is unreachable' "$folder/refused" || { cat "$folder/refused" >&2; exit 1; }
[[ -f $folder/finetune.tar ]] || timed "making the bundle" .venv/bin/finetune bundle create --out "$folder/finetune.tar"
say "finetune.tar: $(($(stat -c %s "$folder/finetune.tar") / 1000000)) MB"
tar -xf "$folder/finetune.tar" -C "$folder" install.py
timed "verifying" inside /usr/bin/python3 -I install.py finetune.tar --verify
timed "installing" inside /usr/bin/python3 -I install.py finetune.tar --into /tmp/site/opt
inside /tmp/site/opt/current/bin/finetune --version
inside /tmp/site/opt/current/bin/finetune recipe validate /tmp/site/opt/current/recipes/qwen3_5/embedded-qlora.yaml
inside /bin/sh -c 'opt/current/bin/finetune base add opt/current/lib/python3.*/site-packages/finetune/embedded/base \
  --name tiny --licence apache-2.0 --home home'
say "installed: $(du -sm "$folder/opt" | cut -f1) MB"
[[ $# -eq 1 ]] || exit 0
timed "the demo" inside /tmp/site/opt/current/bin/finetune demo --home home
