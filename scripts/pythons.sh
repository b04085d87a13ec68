#!/usr/bin/env bash
# Can `make demo` and `make test` install on every supported Python, from the pip that it brings itself? Everything is resolved,
# nothing installed: scripts/pythons.sh [PYTHON ...]. A Python that the machine does not have is named, and is no failure.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
if command -v pyenv > /dev/null; then # shims stand for every version that pyenv holds
  PYENV_VERSION=$(pyenv versions --bare | paste -sd:) && export PYENV_VERSION
fi

[[ $# -gt 0 ]] || set -- python3.10 python3.11 python3.12 python3.13
failed=0 missing=()
for python in "$@"; do
  "$python" -c '' 2> /dev/null || { missing+=("$python"); continue; }
  start=$SECONDS
  if make --silent resolve PYTHON="$python" VENV="$place/$python" > "$place/log" 2>&1; then
    echo "$python: resolved in $((SECONDS - start)) s"
  else
    echo "$python: does not resolve"; tail -n 20 "$place/log"; failed=1
  fi
done
[[ ${#missing[@]} -eq 0 ]] || echo "not on this machine, so not tried: ${missing[*]}"
exit $failed
