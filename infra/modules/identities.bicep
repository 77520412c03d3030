// Two identities: the app's, and the compute nodes'. Code that trains models cannot do what the app can.

param environmentName string
param location string
param tags object

resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-shelfcast-app-${environmentName}'
  location: location
  tags: tags
}

resource compute 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: 'id-shelfcast-compute-${environmentName}'
  location: location
  tags: tags
}

output appId string = app.id
output appName string = app.name
output appClientId string = app.properties.clientId
output appPrincipalId string = app.properties.principalId
output computeId string = compute.id
output computePrincipalId string = compute.properties.principalId
