#!/bin/sh
# Installs the Kinesis servers of others, to which our requests must be right as well, and a real
# client to read back with:
#
#     kinesalite, kinesis-local (npm)    moto, boto3 (PyPI, in a venv)
#
# into $KT_THIRD_PARTY (default: build/third-party), unless these very versions are there.
# Prints the directory.  Needs npm, and python3 with its venv module.
set -eu

KINESALITE=3.3.3
KINESIS_LOCAL=0.6.2
MOTO=5.2.5
BOTO3=1.44.5

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
dir=${KT_THIRD_PARTY:-$root/build/third-party}
wanted="kinesalite $KINESALITE kinesis-local $KINESIS_LOCAL moto $MOTO boto3 $BOTO3"

mkdir -p "$dir"
cd "$dir"

# Two test runs at once install once.
exec 9>lock
flock 9

if [ "$(cat installed 2>/dev/null)" = "$wanted" ]; then
    pwd
    exit 0
fi

rm -rf installed venv node_modules package.json package-lock.json
{
    # Scripts and optional packages would only compile a faster store than memory.
    echo '{ "private": true }' >package.json
    npm install --no-audit --no-fund --no-progress --ignore-scripts --omit=optional \
        "kinesalite@$KINESALITE" "kinesis-local@$KINESIS_LOCAL"

    "${PYTHON:-python3}" -m venv venv
    venv/bin/pip install --quiet --disable-pip-version-check \
        "moto[server]==$MOTO" "boto3==$BOTO3"
} >install.log 2>&1 || {
    cat install.log >&2
    echo "third_party.sh: could not install into $dir" >&2
    exit 1
}
echo "$wanted" >installed
pwd
