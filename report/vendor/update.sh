#!/usr/bin/env bash
# Take what is vendored from the npm registry, at the versions that README.md names.
set -euo pipefail
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
tar xzf "$folder/$(npm pack --silent --pack-destination "$folder" tablesort@5.7.1)" -C "$folder"
cp "$folder/package/dist/tablesort.min.js" .
cp "$folder/package/LICENCE" tablesort.LICENCE
