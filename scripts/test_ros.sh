#!/usr/bin/env bash
# Builds the three environments of the tests with ROS from package registries alone, and runs them: `make test-ros`.
#   a: rclpy (Kilted, Fast DDS), dfplan and the simulated arm   b: Cyclone DDS   c: a rosbridge server on Jazzy
# Where one cannot be installed (there are wheels for Linux on x86_64 only), its tests are skipped and say why.
# Arguments go to pytest. ROS_ENVS: where the environments are kept (.venv-ros). PYTHON: 3.10 to 3.13.
# ROS_INSTALL_LIMIT: an environment that takes longer to install is given up, s (0: no limit).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mkdir -p "${ROS_ENVS:=.venv-ros}"
root=$(cd "$ROS_ENVS" && pwd)
python=${PYTHON:-python3}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE

ros=(ros-sensor-msgs ros-trajectory-msgs ros-std-msgs ros-std-srvs ros-geometry-msgs ros-diagnostic-msgs)
kilted=('ros-rclpy[fastrtps]==9.1.2' "${ros[@]/%/==5.5.1}")
kilted=("${kilted[@]/ros-diagnostic-msgs==5.5.1/ros-diagnostic-msgs}")
jazzy=(rosbridge-server-rs==0.1.6 ros-jazzy-rclpy==7.1.6 ros-jazzy-rmw-fastrtps-cpp "${ros[@]/#ros-/ros-jazzy-}")

# build NAME PACKAGE...: an environment, kept until what it is made of changes, and tried; prints why it failed.
build() {
  local folder=$root/$1 version list
  shift
  version=$("$python" --version)
  list="$version $* $(cksum <pyproject.toml)"
  if [[ ! -f $folder/.installed || $(<"$folder/.installed") != "$list" ]]; then
    if [[ ! -f $folder/.installed || $(<"$folder/.installed") != "$version "* ]]; then
      rm -rf "$folder"
      "$python" -m venv "$folder"
    fi
    rm -f "$folder/.installed"
    timeout "${ROS_INSTALL_LIMIT:-0}" \
      "$folder/bin/python" -m pip --disable-pip-version-check --no-input install --quiet "$@" >&2 ||
      { [[ $? != 124 ]] || echo "not installed within $ROS_INSTALL_LIMIT s" >&2; return 1; }
    printf '%s' "$list" >"$folder/.installed"
  fi
  case ${folder##*/} in
    a) "$folder/bin/python" -c 'import dfplan.envs, mujoco, rosbags, rclpy; rclpy.init(); rclpy.shutdown()' >&2 ;;
    b) "$folder/bin/python" -c 'import cyclonedds.domain' >&2 ;;
    c) "$folder/bin/python" tests/ros/bridge.py --help 2>&1 >/dev/null | tail -n 3 >&2 ;;
  esac
}

# reason NAME: last lines of what pip said, on one line.
reason() { grep -vE '^WARNING|^ *(note|hint):|^\s*$' "$root/$1.log" | tail -n 2 | tr '\n' ' '; }

echo "building the environments in $root; the first time takes some minutes"
pids=()
for name in a b c; do
  case $name in
    a) packages=(--editable "$PWD[deploy,ros]" pytest hypothesis rosbags==0.11.9 "${kilted[@]}") ;;
    b) packages=(cyclonedds==11.0.1) ;;
    c) packages=("${jazzy[@]}") ;;
  esac
  (build "$name" "${packages[@]}") 2>"$root/$name.log" &
  pids+=($!)
done
for i in 0 1 2; do
  names=(a b c) variables=(A DFPLAN_CYCLONE_PYTHON DFPLAN_ROSBRIDGE_PYTHON)
  if wait "${pids[$i]}"; then
    export "${variables[$i]}=$root/${names[$i]}/bin/python"
  else
    echo "environment ${names[$i]} cannot be installed or run: $(reason "${names[$i]}")" >&2
    export "${variables[$i]}_WHY=cannot be installed or run here: $(reason "${names[$i]}")"
  fi
done

if [[ -z ${A:-} ]]; then
  echo "SKIPPED: all tests with ROS: rclpy ${A_WHY}"
  exit 0
fi

# Ahead of what else runs here, where that is allowed: a loop of 100 Hz wants its processor in time.
group=/proc/$$/autogroup
if [[ -r $group ]]; then
  before=$(sed 's/.* //' "$group")
  if { echo -10 >"$group"; } 2>/dev/null; then trap 'echo "$before" >"$group"' EXIT; fi
fi
"$A" -m pytest tests/ros -rs "$@"
