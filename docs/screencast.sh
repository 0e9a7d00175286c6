#!/usr/bin/env bash
# Records a sweep in a terminal and draws the recording as an animated picture, 30 times as fast:
#   docs/screencast.sh docs/sweep.svg experiments/prec_recall.yaml
# Needs `make setup`. termtosvg, which records and draws, is installed into a temporary folder.
set -euo pipefail
[ -t 0 ] && [ -t 1 ] || { echo "error: records a terminal, and this is none; script -qec 'docs/screencast.sh ...' makes one" >&2; exit 2; }
picture=$1 experiment=$2 faster=30
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
# termtosvg 1.1 asks for pkg_resources, which setuptools had until 81.
"$tools/bin/pip" install --quiet termtosvg==1.1.0 'setuptools<81'
command="tadp-ray sweep $experiment"
PATH="$PWD/.venv/bin:$PATH" "$tools/bin/termtosvg" record "$tools/real.cast" -g 116x40 -c "sh -c 'echo \$ $command; exec $command'"
"$tools/bin/python" - "$tools" "$faster" <<'PY'
import json, os, sys

folder, faster, here = sys.argv[1], float(sys.argv[2]), os.getcwd() + "/"
header, *events = map(json.loads, open(f"{folder}/real.cast"))
with open(f"{folder}/fast.cast", "w") as file:
    print(json.dumps(header), file=file)
    for at, kind, text in events:
        print(json.dumps([at / faster, kind, text.replace(here, "")]), file=file)
PY
# Frames of a quarter of a second; the last one, with the table, stays.
"$tools/bin/termtosvg" render "$tools/fast.cast" "$picture" -m 250 -D 8000 -t gjm8
echo "$picture: $(du -h "$picture" | cut -f1)"
