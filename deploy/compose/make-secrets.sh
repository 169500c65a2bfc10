#!/bin/sh
# Makes the secrets of compose.yaml, each in a file of its own in secrets/. What is there already stays as it is.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
# The folder is what keeps others out. The files are mounted one by one, and read by users of the containers.
chmod 700 secrets

random() { openssl rand -base64 32; }
# Whole or not at all, and never over another one: a keyring that is lost takes everything sealed with it.
keep() {
  if [ -e "secrets/$1" ]; then
    echo "secrets/$1 is there already"
    cat >/dev/null
    return
  fi
  cat >"secrets/$1.new"
  chmod 644 "secrets/$1.new"
  mv "secrets/$1.new" "secrets/$1"
  echo "secrets/$1 made"
}

# Hexadecimal: it needs no quotes anywhere.
openssl rand -hex 32 | keep database-password
random | sed 's/^/k1:/' | keep keyring
{
  echo "CONSENTRY_ADMIN_KEY=$(random)"
  echo "PGPASSWORD=$(cat secrets/database-password)"
  echo "# CONSENTRY_MODEL_API_KEY="
} | keep broker.env
