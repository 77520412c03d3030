// Everything of one environment, in one resource group. A module a service; who may do what is said here.

import { roles } from 'roles.bicep'

param environmentName string
param location string
@description('Makes names unique in the world.')
param token string
param tags object
@description('One of environments/*.json.')
param choice object
param administratorsGroupId string
param administratorsGroupName string
param entraClientId string
param alertEmail string
param codeVersion string
param budgetStart string
param runbookUrl string

// One container a zone: domain/lake_paths.py, CONTAINERS (tests/infra compares the two).
var zones = [
  'landing'
  'conditioned'
  'quarantine'
  'curated'
  'models'
  'staging'
  'published'
  'runs'
  'audit'
]
var shortToken = take(token, 8)
var names = {
  app: 'func-shelfcast-${environmentName}-${shortToken}'
  package: 'app-package'
  workspace: 'mlw-shelfcast-${environmentName}'
  compute: 'cpu-cluster'
  hub: 'shelfcast'
}

module identities 'modules/identities.bicep' = {
  params: {
    environmentName: environmentName
    location: location
    tags: tags
  }
}

module network 'modules/network.bicep' = if (choice.privateNetwork) {
  params: {
    environmentName: environmentName
    location: location
    tags: tags
  }
}

var endpointSubnetId = choice.privateNetwork ? network!.outputs.endpointSubnetId : ''
var appSubnetId = choice.privateNetwork ? network!.outputs.appSubnetId : ''
var zoneIds = choice.privateNetwork ? network!.outputs.zoneIds : {}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    environmentName: environmentName
    location: location
    tags: tags
    retentionDays: choice.logRetentionDays
    dailyCapGb: choice.logDailyCapGb
    publisherIds: [
      identities.outputs.appPrincipalId
      identities.outputs.computePrincipalId
    ]
  }
}

module hostStorage 'modules/storage.bicep' = {
  params: {
    name: 'sthost${token}'
    location: location
    tags: tags
    skuName: choice.hostStorageSku
    hierarchical: false
    containers: [
      names.package
    ]
    deleteRetentionDays: 7
    immutableDays: 0
    services: [
      'blob'
      'queue'
      'table'
    ]
    privateNetwork: choice.privateNetwork
    endpointSubnetId: endpointSubnetId
    zoneIds: zoneIds
    logWorkspaceId: monitoring.outputs.workspaceId
    assignments: [
      {
        principalId: identities.outputs.appPrincipalId
        roleId: roles.storageBlobDataOwner
        principalType: 'ServicePrincipal'
      }
      {
        principalId: identities.outputs.appPrincipalId
        roleId: roles.storageQueueDataContributor
        principalType: 'ServicePrincipal'
      }
      {
        principalId: identities.outputs.appPrincipalId
        roleId: roles.storageTableDataContributor
        principalType: 'ServicePrincipal'
      }
    ]
  }
}

module lake 'modules/storage.bicep' = {
  params: {
    name: 'stlake${token}'
    location: location
    tags: tags
    skuName: choice.lakeSku
    hierarchical: true
    containers: zones
    deleteRetentionDays: choice.deleteRetentionDays
    immutableDays: choice.auditImmutableDays
    services: [
      'blob'
      'dfs'
      'queue'
    ]
    privateNetwork: choice.privateNetwork
    endpointSubnetId: endpointSubnetId
    zoneIds: zoneIds
    logWorkspaceId: monitoring.outputs.workspaceId
    assignments: [
      {
        principalId: identities.outputs.appPrincipalId
        roleId: roles.storageBlobDataContributor
        principalType: 'ServicePrincipal'
      }
      {
        // the blob trigger keeps events that fail five times in a queue beside the blobs
        principalId: identities.outputs.appPrincipalId
        roleId: roles.storageQueueDataContributor
        principalType: 'ServicePrincipal'
      }
      {
        principalId: identities.outputs.computePrincipalId
        roleId: roles.storageBlobDataContributor
        principalType: 'ServicePrincipal'
      }
      {
        principalId: dataFactory.outputs.principalId
        roleId: roles.storageBlobDataReader
        principalType: 'ServicePrincipal'
      }
      {
        // its storage event triggers subscribe themselves
        principalId: dataFactory.outputs.principalId
        roleId: roles.eventGridContributor
        principalType: 'ServicePrincipal'
      }
    ]
  }
}

module mlStorage 'modules/storage.bicep' = {
  params: {
    name: 'stml${token}'
    location: location
    tags: tags
    skuName: choice.hostStorageSku
    hierarchical: false // the workspace's own store cannot have a hierarchical namespace
    containers: []
    deleteRetentionDays: 7
    immutableDays: 0
    services: [
      'blob'
    ]
    privateNetwork: choice.privateNetwork
    endpointSubnetId: endpointSubnetId
    zoneIds: zoneIds
    logWorkspaceId: monitoring.outputs.workspaceId
    assignments: [
      {
        principalId: identities.outputs.computePrincipalId
        roleId: roles.storageBlobDataContributor
        principalType: 'ServicePrincipal'
      }
    ]
  }
}

module landingTopic 'modules/event-topic.bicep' = {
  params: {
    name: 'evgt-landing-${environmentName}'
    location: location
    tags: tags
    sourceId: lake.outputs.id
  }
}

module vault 'modules/key-vault.bicep' = {
  params: {
    name: 'kv-${token}'
    location: location
    tags: tags
    privateNetwork: choice.privateNetwork
    endpointSubnetId: endpointSubnetId
    zoneIds: zoneIds
    logWorkspaceId: monitoring.outputs.workspaceId
    assignments: [
      {
        principalId: identities.outputs.appPrincipalId
        roleId: roles.keyVaultSecretsUser
        principalType: 'ServicePrincipal'
      }
      {
        principalId: administratorsGroupId
        roleId: roles.keyVaultSecretsOfficer
        principalType: 'Group'
      }
    ]
  }
}

module machineLearning 'modules/machine-learning.bicep' = {
  params: {
    name: names.workspace
    location: location
    tags: tags
    registryName: 'cr${token}'
    computeName: names.compute
    computeSize: choice.computeSize
    computeMaxNodes: choice.computeMaxNodes
    lowPriority: choice.computeLowPriority
    computeIdentityId: identities.outputs.computeId
    computePrincipalId: identities.outputs.computePrincipalId
    scientistIds: [
      identities.outputs.appPrincipalId
    ]
    storageAccountId: mlStorage.outputs.id
    keyVaultId: vault.outputs.id
    applicationInsightsId: monitoring.outputs.componentId
    lakeName: lake.outputs.name
    lakeId: lake.outputs.id
    zones: zones
    privateNetwork: choice.privateNetwork
    endpointSubnetId: endpointSubnetId
    zoneIds: zoneIds
    logWorkspaceId: monitoring.outputs.workspaceId
  }
}

module sql 'modules/sql.bicep' = {
  params: {
    name: 'sql-shelfcast-${environmentName}-${shortToken}'
    location: location
    tags: tags
    skuName: choice.sqlSku
    zoneRedundant: choice.zoneRedundant
    autoPauseMinutes: choice.sqlAutoPauseMinutes
    administratorsGroupId: administratorsGroupId
    administratorsGroupName: administratorsGroupName
    privateNetwork: choice.privateNetwork
    endpointSubnetId: endpointSubnetId
    zoneIds: zoneIds
    logWorkspaceId: monitoring.outputs.workspaceId
  }
}

module durableScheduler 'modules/durable-scheduler.bicep' = if (choice.durableBackend == 'DurableTaskScheduler') {
  params: {
    name: 'dts-shelfcast-${environmentName}'
    location: location
    tags: tags
    hubName: names.hub
    appPrincipalId: identities.outputs.appPrincipalId
  }
}

module functionApp 'modules/function-app.bicep' = {
  params: {
    name: names.app
    location: location
    tags: tags
    identityId: identities.outputs.appId
    identityClientId: identities.outputs.appClientId
    hostStorageName: hostStorage.outputs.name
    packageContainer: names.package
    lakeName: lake.outputs.name
    applicationInsightsConnection: monitoring.outputs.connectionString
    applicationInsightsId: monitoring.outputs.componentId
    dataFactoryId: dataFactory.outputs.id
    resultsUrl: 'mssql+mssqlpython://${sql.outputs.host}/${sql.outputs.databaseName}?Authentication=ActiveDirectoryMSI&UID=${identities.outputs.appClientId}&Encrypt=yes'
    workspaceName: machineLearning.outputs.name
    computeName: names.compute
    entraClientId: entraClientId
    codeVersion: codeVersion
    choice: choice
    schedulerEndpoint: choice.durableBackend == 'DurableTaskScheduler' ? durableScheduler!.outputs.endpoint : ''
    hubName: names.hub
    subnetId: appSubnetId
    logWorkspaceId: monitoring.outputs.workspaceId
  }
}

module dataFactory 'modules/data-factory.bicep' = {
  params: {
    name: 'adf-shelfcast-${environmentName}-${shortToken}'
    location: location
    tags: tags
    // the app's name, not its output: the lake's roles need the factory, and the app needs the lake
    functionsUrl: 'https://${names.app}.azurewebsites.net'
    functionsAudience: 'api://${entraClientId}'
    logWorkspaceId: monitoring.outputs.workspaceId
  }
}

module alerts 'modules/alerts.bicep' = {
  params: {
    environmentName: environmentName
    tags: tags
    alertEmail: alertEmail
    lakeId: lake.outputs.id
    factoryId: dataFactory.outputs.id
    functionAppId: functionApp.outputs.id
  }
}

module alertRules 'modules/alert-rules.bicep' = {
  params: {
    environmentName: environmentName
    location: location
    tags: tags
    componentId: monitoring.outputs.componentId
    urgentGroupId: alerts.outputs.urgentGroupId
    workdayGroupId: alerts.outputs.workdayGroupId
    runbookUrl: runbookUrl
  }
}

module workbook 'modules/workbook.bicep' = {
  params: {
    location: location
    tags: tags
    componentId: monitoring.outputs.componentId
  }
}

module budget 'modules/budget.bicep' = {
  params: {
    name: 'budget-shelfcast-${environmentName}'
    amount: choice.monthlyBudget
    startDate: budgetStart
    alertEmail: alertEmail
  }
}

output functionAppName string = functionApp.outputs.name
output functionAppUrl string = functionApp.outputs.url
output functionsAudience string = 'api://${entraClientId}'
output lakeAccountId string = lake.outputs.id
output landingTopicName string = landingTopic.outputs.name
output dataFactoryName string = dataFactory.outputs.name
output dataFactoryPrincipalId string = dataFactory.outputs.principalId
output appIdentityName string = identities.outputs.appName
output workspaceName string = machineLearning.outputs.name
output computeName string = names.compute
output sqlServerHost string = sql.outputs.host
output sqlDatabaseName string = sql.outputs.databaseName
