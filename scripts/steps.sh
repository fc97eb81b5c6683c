# shellcheck shell=bash
# Sourced by the scripts beside it: where the tree is, a title and the elapsed time for each step, and the settings that
# Open MPI needs on a machine with few cores. Progress goes to stderr, so that results on stdout can be piped.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=${JOBS:-$(nproc)}
started=$SECONDS

elapsed() { printf '%02d:%02d' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60)); }

# say TEXT...: one line with the time since the script began.
say() { printf '[%s] %s\n' "$(elapsed)" "$*" >&2; }

# die CODE TEXT...: one line that says what is wrong, and the exit code of interface and README.
die() {
  local code=$1
  shift
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit "$code"
}

# run COMMAND...: prints the command as one could type it, then runs it.
run() {
  printf '[%s] $' "$(elapsed)" >&2
  printf ' %q' "$@" >&2
  printf '\n' >&2
  "$@"
}

# configure BUILD_DIR CMAKE_ARGUMENTS...: a build directory that came here with a copy of another tree is set up afresh.
configure() {
  local build=$1 fresh=() generator=() home
  shift
  if [[ -f $build/CMakeCache.txt ]]; then
    home=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt")
    [[ $home == "$root" ]] || fresh=(--fresh)
  fi
  if [[ ! -f $build/CMakeCache.txt || ${#fresh[@]} -gt 0 ]]; then
    generator=(-G Ninja)
  fi
  run cmake "${fresh[@]}" -S "$root" -B "$build" "${generator[@]}" "$@" >&2
}

# More ranks than cores, as root, in containers without ptrace rights: allowed, and idle ranks give way. Whatever the
# user has set stays. Open MPI 4 reads the OMPI_ names, Open MPI 5 also the PRTE_ ones.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
export PRTE_MCA_rmaps_default_mapping_policy=${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}
export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
