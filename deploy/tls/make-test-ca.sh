#!/usr/bin/env bash
# Makes an authority for trials and what it signs; run again, it renews the certificates and keeps the authority. Never
# for production: keys can be read by every user of this machine, because containers run as users of their own.
#   deploy/tls/make-test-ca.sh DIR [NAME...]    NAME: a DNS name or an IPv4 address of proxy and servers, beside
#                                               headlight, haproxy, localhost and 127.0.0.1
# Each folder is for one party, so that nobody is given another's key:
#   DIR/ca       ca.key, ca.pem         stays here
#   DIR/server   cert.pem, key.pem, ca.pem    --tls-cert, --tls-key, --tls-client-ca of headlight-server
#   DIR/proxy    proxy.pem (certificate and key), ca.pem    HAProxy's, shown to callers and to servers; cert.pem, key.pem: Envoy's
#   DIR/client   cert.pem, key.pem, ca.pem    --tls-cert, --tls-key, --tls-ca of headlight
# Servers take new files within a second by themselves, HAProxy on SIGUSR2.
set -euo pipefail
umask 022  # containers' users must get in

[ $# -ge 1 ] || { sed -n '2,/^set /{ /^set /d; s/^# \{0,1\}//; p }' "$0" >&2; exit 2; }
readonly DIR=$1
shift
readonly NEW_KEY=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes) CA_DAYS=365 DAYS=30

names="DNS:headlight,DNS:haproxy,DNS:localhost,IP:127.0.0.1"
for name in "$@"; do
  if [[ $name =~ ^[0-9.]+$ ]]; then names+=",IP:$name"; else names+=",DNS:$name"; fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
quietly() { "$@" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }; }

# put FILE MODE FOLDER NAME: in one step, so that nobody reads half of it.
put() {
  install -m "$2" "$1" "$3/.$4.new"
  mv "$3/.$4.new" "$3/$4"
}

# sign PARTY USAGE: a new key and its certificate, for USAGE of extendedKeyUsage, as $work/PARTY.key and .pem.
sign() {
  quietly openssl req "${NEW_KEY[@]}" -subj "/CN=headlight test $1" -keyout "$work/$1.key" -out "$work/$1.csr"
  printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\n' \
    "$names" "$2" >"$work/$1.ext"
  quietly openssl x509 -req -days "$DAYS" -in "$work/$1.csr" -extfile "$work/$1.ext" -CA "$DIR/ca/ca.pem" \
    -CAkey "$DIR/ca/ca.key" -set_serial "0x$(openssl rand -hex 16)" -out "$work/$1.pem"
}

mkdir -p "$DIR"/{ca,server,proxy,client}
if [ ! -s "$DIR/ca/ca.key" ]; then
  quietly openssl req -x509 "${NEW_KEY[@]}" -days "$CA_DAYS" -subj "/CN=headlight test authority" \
    -addext "keyUsage=keyCertSign,cRLSign" -keyout "$work/ca.key" -out "$work/ca.pem"
  put "$work/ca.pem" 644 "$DIR/ca" ca.pem
  put "$work/ca.key" 600 "$DIR/ca" ca.key
fi
sign server serverAuth
sign proxy serverAuth,clientAuth
sign client clientAuth
for party in server proxy client; do
  put "$work/$party.pem" 644 "$DIR/$party" cert.pem
  put "$work/$party.key" 644 "$DIR/$party" key.pem
done
cat "$work/proxy.pem" "$work/proxy.key" >"$work/both.pem"
put "$work/both.pem" 644 "$DIR/proxy" proxy.pem
for party in server proxy client; do put "$DIR/ca/ca.pem" 644 "$DIR/$party" ca.pem; done
