# shellcheck shell=bash
# Sourced by testnet/up, down and msm: the container engine, and the names of what they make.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Another name gives a second network beside the first.
project=${TESTNET_PROJECT:-msm-testnet}
export TESTNET_IMAGE="$project"
max_workers=16

# fail MESSAGE [TRY]: ends with 1.
fail() {
    printf 'testnet: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  try: %s\n' "$2" >&2
    exit 1
}

command -v docker >/dev/null || fail "docker is not installed" "sudo apt-get install docker.io docker-compose"
docker=(docker)
if ! docker info >/dev/null 2>&1; then
    if command -v sudo >/dev/null && sudo -n docker info >/dev/null 2>&1; then
        docker=(sudo -n docker)
    else
        fail "no docker engine answers this user" "docker info"
    fi
fi

# compose ARGS…: on this project, with whichever compose there is.
compose() {
    local tool
    if "${docker[@]}" compose version >/dev/null 2>&1; then
        tool=("${docker[@]}" compose)
    elif command -v docker-compose >/dev/null; then
        tool=(docker-compose)
        [ "${docker[0]}" != sudo ] || tool=(sudo -n --preserve-env=TESTNET_IMAGE,MSM_LOG docker-compose)
    else
        fail "neither docker compose nor docker-compose is installed" "sudo apt-get install docker-compose"
    fi
    "${tool[@]}" -p "$project" -f "$here/compose.yaml" "$@"
}

# container NODE: its id, or nothing while it does not run.
container() {
    "${docker[@]}" ps -q --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$1"
}
