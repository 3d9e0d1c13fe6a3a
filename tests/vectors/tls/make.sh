#!/bin/sh
# Makes the certificates of this folder: an authority, two servers' that it vouches for, and one that a server made for
# itself. Good for 100 years.
set -e
cd "$(dirname "$0")"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca_key.pem -out ca.pem -days 36500 \
  -subj "/CN=natkit test authority" 2>/dev/null
for name in one two; do
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "${name}_key.pem" -out "$name.csr" \
    -subj "/CN=$name.example" 2>/dev/null
  printf 'subjectAltName=DNS:%s.example,DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=CA:FALSE\n' "$name" >ext
  openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca_key.pem -CAcreateserial -days 36500 -extfile ext \
    -out "$name.pem" 2>/dev/null
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout alone_key.pem -out alone.pem -days 36500 \
  -subj "/CN=alone.example" -addext "subjectAltName=DNS:alone.example,DNS:localhost,IP:127.0.0.1" 2>/dev/null
rm -f ext ./*.csr ./*.srl ca_key.pem
