// The factory alone. Its pipelines and triggers are deployed by scripts/deploy_data_factory.py, which stops and starts
// the triggers around it.

param name string
param location string
param tags object
param functionsUrl string
param functionsAudience string
param logWorkspaceId string

resource factory 'Microsoft.DataFactory/factories@2018-06-01' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    publicNetworkAccess: 'Enabled'
    globalParameters: {
      functions_url: {
        type: 'String'
        value: functionsUrl
      }
      functions_audience: {
        type: 'String'
        value: functionsAudience
      }
    }
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: factory
  properties: {
    workspaceId: logWorkspaceId
    logAnalyticsDestinationType: 'Dedicated'
    logs: [
      {
        category: 'PipelineRuns'
        enabled: true
      }
      {
        category: 'ActivityRuns'
        enabled: true
      }
      {
        category: 'TriggerRuns'
        enabled: true
      }
    ]
  }
}

output id string = factory.id
output name string = factory.name
output principalId string = factory.identity.principalId
