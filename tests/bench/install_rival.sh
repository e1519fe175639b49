#!/bin/sh
# Install the benchmark's rival, Postfix and Dovecot, and perf from Debian; start nothing.
#
# Usage: install_rival.sh      (as root, on Debian or a derivative; safe to repeat)
#
# The benchmark runs private instances with their own directories, so the packages' own services
# must not start: a policy-rc.d forbids it during the installation and is put back afterwards.
# What was installed before is left exactly as it is, running or not.
#
# DIAGNOSTICS
#   exit 0   every program is there
#   exit 1   not root, no apt-get, or a program is still missing after the installation
#   other    the exit code of apt-get
set -eu

PACKAGES="postfix dovecot-core dovecot-lmtpd dovecot-imapd linux-perf"
POLICY=/usr/sbin/policy-rc.d

fail() {
    echo "install_rival: $*" >&2
    exit 1
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

restore_policy() {
    rm -f "$POLICY"
    if [ -e "$POLICY.heliograph-bench" ]; then mv "$POLICY.heliograph-bench" "$POLICY"; fi
}

forbid_starts() {
    # A copy that is already there comes from a run that was killed: it is the original, keep it.
    if [ -e "$POLICY" ] && [ ! -e "$POLICY.heliograph-bench" ]; then
        mv "$POLICY" "$POLICY.heliograph-bench"
    fi
    trap restore_policy EXIT
    trap 'exit 130' INT TERM
    # 101 is "action forbidden by policy" (invoke-rc.d(8)).
    printf '#!/bin/sh\nexit 101\n' > "$POLICY"
    chmod 755 "$POLICY"
}

disable_service() {
    # Also not at the next boot; only for a package that this run has installed.
    if [ -d /run/systemd/system ]; then
        systemctl --quiet disable --now "$1" || echo "install_rival: could not disable $1" >&2
    elif command -v update-rc.d >/dev/null; then
        update-rc.d "$1" disable >/dev/null || echo "install_rival: could not disable $1" >&2
    fi
}

missing=""
for package in $PACKAGES; do
    is_installed "$package" || missing="$missing $package"
done

if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || fail "must be root to install:$missing"
    command -v apt-get >/dev/null || fail "no apt-get here; install by hand:$missing"
    forbid_starts
    export DEBIAN_FRONTEND=noninteractive
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    # An update is only needed where the package lists are empty or too old.
    # shellcheck disable=SC2086  # A list of words.
    apt-get install -y -q --no-install-recommends $missing ||
        { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; }
    case "$missing" in *postfix*) disable_service postfix ;; esac
    case "$missing" in *dovecot-core*) disable_service dovecot ;; esac
fi

for program in /usr/sbin/postfix /usr/sbin/smtp-source /usr/sbin/dovecot /usr/lib/dovecot/lmtp \
    /usr/lib/dovecot/imap /usr/bin/perf; do
    [ -x "$program" ] || fail "$program is missing although its package is installed"
done
echo "install_rival: Postfix $(dpkg-query -W -f '${Version}' postfix)," \
    "Dovecot $(dpkg-query -W -f '${Version}' dovecot-core)"
