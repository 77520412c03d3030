#!/bin/sh
# Deploys this factory: stops its triggers, deploys pipelines and triggers, starts the triggers that are not annotated `manual`.
# usage: adf/deploy.sh RESOURCE_GROUP FACTORY ENVIRONMENT        (ENVIRONMENT: dev or prod, a file of adf/parameters)
# Needs the Azure CLI with its datafactory extension, signed in as somebody who may deploy to the group.
set -eu
[ $# -eq 3 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
group=$1 factory=$2 environment=$3
home=$(cd "$(dirname "$0")" && pwd)
template=$(mktemp)
trap 'rm -f "$template"' EXIT

"${PYTHON:-python3}" -m devhost.adf template --factory "$home" > "$template"

triggers() { az datafactory trigger list --resource-group "$group" --factory-name "$factory" --query "$1" --output tsv; }
each() { while IFS= read -r name; do [ -z "$name" ] || az datafactory trigger "$1" \
    --resource-group "$group" --factory-name "$factory" --name "$name" < /dev/null; done; }

triggers "[?properties.runtimeState=='Started'].name" | each stop
az deployment group create --resource-group "$group" --template-file "$template" \
    --parameters "@$home/parameters/$environment.json" --parameters "factoryName=$factory"
triggers "[?!contains(properties.annotations || \`[]\`, 'manual')].name" | each start
