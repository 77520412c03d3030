#!/usr/bin/env bash
# Makes the app registration that callers sign in to, with the app roles reader and operator, and gives the Data Factory
# and the deployment pipelines the role operator. Safe to repeat. Needs az login with the right to make applications.
#   scripts/entra_app.sh NAME [PRINCIPAL_ID ...]     prints the client id for SHELFCAST_ENTRA_CLIENT_ID
set -euo pipefail
name=${1:?usage: entra_app.sh NAME [PRINCIPAL_ID ...]}
shift
reader=6f1a4c52-0c35-4c0e-9d52-5b8f0e6f0a01
operator=6f1a4c52-0c35-4c0e-9d52-5b8f0e6f0a02
role() { # ID VALUE TEXT
    printf '{"id":"%s","value":"%s","displayName":"%s","description":"%s","isEnabled":true,"allowedMemberTypes":["User","Application"]}' \
        "$1" "$2" "Shelfcast $2" "$3"
}
roles="[$(role "$reader" reader 'Sees runs, models, data quality and forecasts'),$(role "$operator" operator 'Starts, replays and cancels runs; promotes and publishes')]"

client=$(az ad app list --filter "displayName eq '$name'" --query '[0].appId' --output tsv)
if [ -z "$client" ]; then
    client=$(az ad app create --display-name "$name" --sign-in-audience AzureADMyOrg --query appId --output tsv)
fi
az ad app update --id "$client" --identifier-uris "api://$client" --app-roles "$roles" >/dev/null
service=$(az ad sp list --filter "appId eq '$client'" --query '[0].id' --output tsv)
if [ -z "$service" ]; then service=$(az ad sp create --id "$client" --query id --output tsv); fi
# Only principals with a role get a token at all.
az ad sp update --id "$service" --set appRoleAssignmentRequired=true >/dev/null
for principal in "$@"; do
    az rest --method POST --url "https://graph.microsoft.com/v1.0/servicePrincipals/$service/appRoleAssignedTo" \
        --body "{\"principalId\":\"$principal\",\"resourceId\":\"$service\",\"appRoleId\":\"$operator\"}" >/dev/null 2>&1 ||
        echo "entra_app: $principal has the role already, or you may not give it" >&2
done
echo "$client"
