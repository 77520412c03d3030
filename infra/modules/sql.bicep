// Azure SQL for the result tables: Entra ID only, no password exists.

param name string
param location string
param tags object
param skuName string
param zoneRedundant bool
@description('Minutes without use after which a serverless database pauses; -1 = never.')
param autoPauseMinutes int
param administratorsGroupId string
param administratorsGroupName string
param privateNetwork bool
param endpointSubnetId string
param zoneIds object
param logWorkspaceId string

resource server 'Microsoft.Sql/servers@2025-01-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    administrators: {
      administratorType: 'ActiveDirectory'
      principalType: 'Group'
      login: administratorsGroupName
      sid: administratorsGroupId
      tenantId: tenant().tenantId
      azureADOnlyAuthentication: true
    }
    minimalTlsVersion: '1.2'
    version: '12.0'
    publicNetworkAccess: privateNetwork ? 'Disabled' : 'Enabled'
  }
}

// 0.0.0.0 is Azure's name for "services of Azure"; who they are is still asked by Entra ID.
resource azureServices 'Microsoft.Sql/servers/firewallRules@2025-01-01' = if (!privateNetwork) {
  parent: server
  name: 'azure-services'
  properties: {
    startIpAddress: '0.0.0.0'
    endIpAddress: '0.0.0.0'
  }
}

resource database 'Microsoft.Sql/servers/databases@2025-01-01' = {
  parent: server
  name: 'shelfcast'
  location: location
  tags: tags
  sku: {
    name: skuName
  }
  properties: {
    collation: 'Latin1_General_100_CI_AS_SC_UTF8'
    zoneRedundant: zoneRedundant
    autoPauseDelay: autoPauseMinutes
    // The lake is the truth and the tables are written again from it, so a local backup is enough.
    requestedBackupStorageRedundancy: zoneRedundant ? 'Zone' : 'Local'
  }
}

module endpoint 'private-endpoint.bicep' = if (privateNetwork) {
  name: 'endpoint-${name}'
  params: {
    name: 'pe-${name}'
    location: location
    tags: tags
    targetId: server.id
    groupId: 'sqlServer'
    subnetId: endpointSubnetId
    zoneIds: [
      zoneIds.sqlServer
    ]
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: database
  properties: {
    workspaceId: logWorkspaceId
    logs: [
      {
        category: 'Errors'
        enabled: true
      }
    ]
  }
}

output host string = server.properties.fullyQualifiedDomainName
output databaseName string = database.name
