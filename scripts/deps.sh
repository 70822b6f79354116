#!/bin/sh
# deps.sh install [GOAL...]   installs what is missing to build, run and test,
#                             and for GOALs of "make check" its analysers,
#                             for "make bench-2" what draws its plots, for
#                             "make bench-4" the proxies it measures, too
# deps.sh need TOOL...        says in one line what to install, and fails, if
#                             a tool is missing; $GOAL is what needs it
#
# Plain sh: it runs on machines that have nothing but make. A row is a thing
# and the package that has it, for each package manager; - means that it comes
# with the system or that there is none.
set -u

table() {
    cat <<'ROWS'
thing        apt               dnf               apk               pacman         zypper            brew
cc           gcc               gcc               gcc               gcc            gcc               gcc
libc         libc6-dev         glibc-devel       musl-dev          glibc          glibc-devel       -
make         make              make              make              make           make              make
pkg-config   pkg-config        pkgconf-pkg-config pkgconf          pkgconf        pkgconf           pkgconf
jansson      libjansson-dev    jansson-devel     jansson-dev       jansson        libjansson-devel  jansson
openssl      libssl-dev        openssl-devel     openssl-dev       openssl        libopenssl-devel  openssl
openssl-tool openssl           openssl           openssl           openssl        openssl           openssl
gnutls-cli   gnutls-bin        gnutls-utils      gnutls-utils      gnutls         gnutls            gnutls
bash         bash              bash              bash              bash           bash              bash
bats         bats              bats              bats              bats           bats              bats-core
bats-support bats-support      bats-support      bats-support      bats-support   bats-support      bats-core/bats-core/bats-support
bats-assert  bats-assert       bats-assert       bats-assert       bats-assert    bats-assert       bats-core/bats-core/bats-assert
socat        socat             socat             socat             socat          socat             socat
nc           netcat-openbsd    netcat            netcat-openbsd    openbsd-netcat netcat-openbsd    -
python3      python3           python3           python3           python         python3           python
strace       strace            strace            strace            strace         strace            -
ss           iproute2          iproute           iproute2          iproute2       iproute2          -
ps           procps            procps-ng         procps            procps-ng      procps            -
unshare      util-linux        util-linux        util-linux-misc   util-linux     util-linux        -
cmp          diffutils         diffutils         diffutils         diffutils      diffutils         -
patch        patch             patch             patch             patch          patch             -
xxd          xxd               vim-common        xxd               xxd            vim               vim
ctags        universal-ctags   ctags             universal-ctags   ctags          ctags             universal-ctags
parallel     parallel          parallel          parallel          parallel       gnu_parallel      parallel
ROWS
}

# What only "make check" and its parts use.
check_table() {
    cat <<'ROWS'
thing        apt               dnf               apk               pacman         zypper            brew
clang        clang             clang             clang             clang          clang             -
libfuzzer    libclang-rt-dev   compiler-rt       compiler-rt       compiler-rt    -                 -
clang-tidy   clang-tidy        clang-tools-extra clang-extra-tools clang          clang-tools       llvm
clang-format clang-format      clang-tools-extra clang-extra-tools clang          clang-tools       clang-format
cppcheck     cppcheck          cppcheck          cppcheck          cppcheck       cppcheck          cppcheck
shellcheck   shellcheck        ShellCheck        shellcheck        shellcheck     ShellCheck        shellcheck
git          git               git               git               git            git               git
tshark       tshark            wireshark-cli     tshark            wireshark-cli  wireshark         wireshark
sslscan      sslscan           sslscan           sslscan           sslscan        sslscan           sslscan
testssl.sh   testssl.sh        testssl           testssl.sh        testssl.sh     testssl.sh        testssl
ROWS
}

# What only "make bench-2" and its like use.
bench_table() {
    cat <<'ROWS'
thing        apt               dnf               apk               pacman         zypper            brew
gnuplot      gnuplot-nox       gnuplot-minimal   gnuplot           gnuplot        gnuplot           gnuplot
ROWS
}

# What "make bench-4" compares with; it leaves out what is not there. All are
# servers, and packages of servers start them: see install_servers.
proxy_table() {
    cat <<'ROWS'
thing        apt               dnf               apk               pacman         zypper            brew
nginx        nginx-light       nginx             nginx             nginx          nginx             nginx
nginx-stream libnginx-mod-stream nginx-mod-stream nginx-mod-stream -              -                 -
haproxy      haproxy           haproxy           haproxy           haproxy        haproxy           haproxy
stunnel      stunnel4          stunnel           stunnel           -              stunnel           stunnel
ROWS
}

# present THING: is it on this machine, and the right one of its name?
present() {
    case $1 in
    libc) echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1 ;;
    bats-*) for folder in $(echo "${BATS_LIB_PATH:-}" | tr : ' ') \
        /usr/lib/bats /usr/share/bats /usr/lib /usr/local/lib \
        /opt/homebrew/lib; do
        [ -e "$folder/$1/load.bash" ] && return
    done
        false ;;
    libfuzzer) echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
        clang -x c -fsanitize=fuzzer,address -o /dev/null - 2>/dev/null ;;
    jansson) pkg-config --exists jansson 2>/dev/null ;;
    openssl) pkg-config --exists 'openssl >= 3' 2>/dev/null ;;
    openssl-tool) command -v openssl >/dev/null ;;
    testssl.sh) command -v testssl >/dev/null || command -v testssl.sh >/dev/null ;;
    ctags) ctags --version 2>/dev/null | grep -q 'Universal Ctags' ;;
    parallel) parallel --version 2>/dev/null | grep -q GNU ;;
    nginx-stream) find /usr/lib/nginx /usr/lib64/nginx \
        -name ngx_stream_module.so 2>/dev/null | grep -q . ||
        PATH=$PATH:/usr/sbin:/sbin nginx -V 2>&1 |
        grep -q -e '--with-stream ' ;;
    ss | nginx | haproxy | stunnel)
        PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

manager() {
    for name in apt-get dnf apk pacman zypper brew; do
        command -v $name >/dev/null && echo "${name%-get}" && return
    done
    echo "deps: none of apt, dnf, apk, pacman, zypper and brew is here;" \
        "install with what your system has: $*" >&2
    return 1
}

# column THING...: the packages of things that are missing, for $packager
packages() {
    for thing; do
        { table; check_table; bench_table; proxy_table; } | awk -v thing="$thing" -v column="$packager" '
            $1 == "thing" { for (i = 2; i <= NF; i++) if ($i == column) c = i }
            $1 == thing && $c != "-" { print $c; exit }'
    done | sort -u | tr '\n' ' '
}

run_as_root() {
    if [ "$(id -u)" -eq 0 ] || [ "$packager" = brew ]; then
        "$@" </dev/null
    elif command -v sudo >/dev/null; then
        sudo "$@" </dev/null
    elif command -v doas >/dev/null; then
        doas "$@" </dev/null
    else
        echo "deps: neither root nor sudo here: run \"make deps\" as root" >&2
        return 1
    fi
}

install() {
    case $packager in
    apt) run_as_root apt-get update -q &&
        run_as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -q -y --no-install-recommends "$@" ;;
    dnf) run_as_root dnf install -y "$@" ;;
    apk) run_as_root apk add "$@" ;;
    pacman) run_as_root pacman -S --needed --noconfirm "$@" ;;
    zypper) run_as_root zypper --non-interactive install "$@" ;;
    brew) brew install "$@" ;;
    esac
}

# Debian starts a server that it installs, at once and whenever the machine
# starts, unless a policy forbids the one, and somebody the other. None of the
# other systems starts what it was not told to.
install_servers() {
    policy=/usr/sbin/policy-rc.d
    if [ "$packager" = apt ] && ! [ -e $policy ]; then
        trap 'run_as_root rm -f $policy' EXIT
        # shellcheck disable=SC2016 # $0 is for the shell that runs as root
        run_as_root sh -c 'printf "#!/bin/sh\nexit 101\n" >"$0" &&
            chmod 755 "$0"' $policy || return
    fi
    install "$@" || return
    [ "$packager" = apt ] && command -v systemctl >/dev/null || return 0
    for unit in nginx haproxy stunnel4; do
        case " $* " in *" $unit"*)
            run_as_root systemctl --quiet disable $unit ;;
        esac
    done
}

case ${1:-} in
install)
    shift
    things=$(table | awk '$1 != "thing" { print $1 }')
    installer=install
    case " $* " in
    *" check"* | *" mistakes "* | *" fuzz "*)
        things="$things $(check_table | awk '$1 != "thing" { print $1 }')" ;;
    esac
    case " $* " in
    *" bench"*)
        things="$things $(bench_table | awk '$1 != "thing" { print $1 }')" ;;
    esac
    case " $* " in
    *" bench-4 "*)
        things="$things $(proxy_table | awk '$1 != "thing" { print $1 }')"
        installer=install_servers ;;
    esac
    missing=
    for thing in $things; do
        present "$thing" || missing="$missing $thing"
    done
    [ -n "$missing" ] || exit 0
    # shellcheck disable=SC2086 # a list of words
    packager=$(manager $missing) || exit 1
    # shellcheck disable=SC2086
    wanted=$(packages $missing)
    if [ -n "$wanted" ]; then
        echo "deps: missing here:$missing; installing: $wanted"
        # shellcheck disable=SC2086
        $installer $wanted || exit 1
    fi
    for thing in $missing; do
        present "$thing" ||
            echo "deps: still without $thing; what needs it will say so" >&2
    done
    ;;
need)
    shift
    for thing; do
        present "$thing" && continue
        goals=deps
        check_table | grep -q "^$thing " && goals='deps check'
        bench_table | grep -q "^$thing " && goals="deps ${GOAL:-bench-2}"
        echo "$thing is missing: \"make $goals\" installs it" >&2
        exit 1
    done
    ;;
*)
    echo "usage: deps.sh install [GOAL...] | need TOOL..." >&2
    exit 2
    ;;
esac
