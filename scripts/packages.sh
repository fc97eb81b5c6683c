# shellcheck shell=bash
# Sourced after steps.sh. need_packages build|test|slurm: installs what is missing from the packages of Debian 12 / Ubuntu
# 24.04 or newer, and leaves apt alone when nothing is. A program counts as there when it can be called, whoever put
# it there; a library when its package is installed.

# command or -, package
build_packages='
g++          g++
cmake        cmake
ninja        ninja-build
mpirun       openmpi-bin
-            libopenmpi-dev
-            libhdf5-dev
-            libyaml-cpp-dev
-            libcli11-dev
-            libfmt-dev
-            nlohmann-json3-dev
-            libzstd-dev
-            libxxhash-dev
-            zlib1g-dev
-            libisal-dev
'
test_packages='
-               libgtest-dev
clang-format-14 clang-format-14
python3         python3
h5dump          hdf5-tools
'
slurm_packages='
slurmctld       slurm-wlm
slurmdbd        slurmdbd
munged          munge
mariadbd        mariadb-server
-               libpmix-dev
'

package_installed() { [[ $(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null) == ii* ]]; }

# missing_packages LIST: one name a line.
missing_packages() {
  local program package
  while read -r program package; do
    [[ -n $package ]] || continue
    if [[ $program != - ]]; then
      command -v "$program" >/dev/null || echo "$package"
    else
      package_installed "$package" || echo "$package"
    fi
  done <<<"$1"
}

apt_get() {
  local sudo=()
  [[ $(id -u) == 0 ]] || sudo=(sudo)
  local attempt
  for attempt in 1 2 3; do
    if run "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 \
      -o APT::Update::Error-Mode=any "$@" >&2; then
      return 0
    fi
    say "apt-get failed (attempt $attempt of 3)"
    [[ $attempt == 3 ]] || sleep $((attempt * 3))
  done
  return 1
}

need_packages() {
  local list=$build_packages missing
  case $1 in
    test) list+=$test_packages ;;
    slurm) list=$slurm_packages ;;
  esac
  if ! command -v dpkg-query >/dev/null; then
    say "no dpkg here, so packages are not checked; needed: $(awk '{print $2}' <<<"$list" | xargs)"
    return 0
  fi
  missing=$(missing_packages "$list" | xargs)
  if [[ -n $missing ]]; then
    command -v apt-get >/dev/null || die 69 "missing packages, and there is no apt-get to install them: $missing"
    [[ $(id -u) == 0 ]] || command -v sudo >/dev/null ||
      die 69 "missing packages; run as root, or with sudo installed, or install them yourself: $missing"
    say "installing: $missing"
    apt_get -qq update || die 69 "cannot read the package lists (apt-get update); missing packages: $missing"
    # shellcheck disable=SC2086 # one word per package
    apt_get -y -qq --no-install-recommends install $missing || die 69 "cannot install: $missing"
  else
    say "packages: all found"
  fi
  [[ $1 != slurm ]] || return 0
  local version
  version=$(cmake --version | sed -n 's/^cmake version //p')
  [[ $(printf '3.25\n%s\n' "$version" | sort -V | head -1) == 3.25 ]] ||
    die 69 "CMake 3.25 or newer is needed, found $version (Debian 12 and Ubuntu 24.04 have it)"
}
