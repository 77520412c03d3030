// Azure ML: workspace, image registry, one compute cluster that shrinks to nothing, a datastore a zone of the lake.
// Components and environments are registered after it, by version: scripts/publish_ml.py.

import { roles } from '../roles.bicep'

param name string
param location string
param tags object
param registryName string
param computeName string
param computeSize string
param computeMaxNodes int
@description('Low-priority nodes cost a fifth and may be taken away; a job then goes back to the queue under its name.')
param lowPriority bool
param computeIdentityId string
param computePrincipalId string
@description('Principals that submit jobs and register models.')
param scientistIds array
param storageAccountId string
param keyVaultId string
param applicationInsightsId string
param lakeName string
param lakeId string
param zones string[]
param privateNetwork bool
param endpointSubnetId string
param zoneIds object
param logWorkspaceId string

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' = {
  name: registryName
  location: location
  tags: tags
  sku: {
    name: privateNetwork ? 'Premium' : 'Standard'
  }
  properties: {
    adminUserEnabled: false
    anonymousPullEnabled: false
    publicNetworkAccess: privateNetwork ? 'Disabled' : 'Enabled'
    networkRuleBypassOptions: 'AzureServices'
  }
}

resource pull 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(registry.id, computePrincipalId, roles.registryPull)
  scope: registry
  properties: {
    principalId: computePrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.registryPull)
  }
}

resource workspace 'Microsoft.MachineLearningServices/workspaces@2026-03-01' = {
  name: name
  location: location
  tags: tags
  kind: 'Default'
  sku: {
    name: 'Basic'
    tier: 'Basic'
  }
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    friendlyName: 'Shelfcast'
    storageAccount: storageAccountId
    keyVault: keyVaultId
    applicationInsights: applicationInsightsId
    containerRegistry: registry.id
    systemDatastoresAuthMode: 'Identity'
    publicNetworkAccess: privateNetwork ? 'Disabled' : 'Enabled'
    imageBuildCompute: privateNetwork ? computeName : null
    v1LegacyMode: false
    managedNetwork: {
      isolationMode: privateNetwork ? 'AllowOnlyApprovedOutbound' : 'Disabled'
      outboundRules: privateNetwork
        ? {
            lake: {
              type: 'PrivateEndpoint'
              destination: {
                serviceResourceId: lakeId
                subresourceTarget: 'blob'
                sparkEnabled: false
              }
            }
            packages: {
              type: 'FQDN'
              destination: 'pypi.org'
            }
            packageFiles: {
              type: 'FQDN'
              destination: 'files.pythonhosted.org'
            }
          }
        : {}
    }
  }
}

resource scientist 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for principalId in scientistIds: {
    name: guid(workspace.id, principalId, roles.machineLearningDataScientist)
    scope: workspace
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.machineLearningDataScientist)
    }
  }
]

resource compute 'Microsoft.MachineLearningServices/workspaces/computes@2026-03-01' = {
  parent: workspace
  name: computeName
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${computeIdentityId}': {}
    }
  }
  properties: {
    computeType: 'AmlCompute'
    disableLocalAuth: true
    properties: {
      vmSize: computeSize
      vmPriority: lowPriority ? 'LowPriority' : 'Dedicated'
      osType: 'Linux'
      remoteLoginPortPublicAccess: 'Disabled'
      enableNodePublicIp: !privateNetwork
      scaleSettings: {
        minNodeCount: 0
        maxNodeCount: computeMaxNodes
        nodeIdleTimeBeforeScaleDown: 'PT5M'
      }
    }
  }
}

resource datastore 'Microsoft.MachineLearningServices/workspaces/datastores@2026-03-01' = [
  for zone in zones: {
    parent: workspace
    name: zone
    properties: {
      datastoreType: 'AzureBlob'
      description: 'Zone ${zone} of the lake, by identity.'
      accountName: lakeName
      containerName: zone
      endpoint: environment().suffixes.storage
      protocol: 'https'
      serviceDataAccessAuthIdentity: 'WorkspaceSystemAssignedIdentity'
      credentials: {
        credentialsType: 'None'
      }
    }
  }
]

module endpoint 'private-endpoint.bicep' = if (privateNetwork) {
  name: 'endpoint-${name}'
  params: {
    name: 'pe-${name}'
    location: location
    tags: tags
    targetId: workspace.id
    groupId: 'amlworkspace'
    subnetId: endpointSubnetId
    zoneIds: [
      zoneIds.workspace
      zoneIds.notebooks
    ]
  }
}

module registryEndpoint 'private-endpoint.bicep' = if (privateNetwork) {
  name: 'endpoint-${registryName}'
  params: {
    name: 'pe-${registryName}'
    location: location
    tags: tags
    targetId: registry.id
    groupId: 'registry'
    subnetId: endpointSubnetId
    zoneIds: [
      zoneIds.registry
    ]
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: workspace
  properties: {
    workspaceId: logWorkspaceId
    logs: [
      {
        category: 'AmlComputeJobEvent'
        enabled: true
      }
      {
        category: 'AmlComputeClusterEvent'
        enabled: true
      }
    ]
  }
}

output id string = workspace.id
output name string = workspace.name
