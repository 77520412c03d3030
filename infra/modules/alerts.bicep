// Whom to wake: an action group a severity, and alerts on the platform's own metrics. What the product itself reports is
// watched by alert-rules.bicep.

param environmentName string
param tags object
param alertEmail string
param lakeId string
param factoryId string
param functionAppId string

var severities = [
  {
    name: 'urgent' // severity 0 and 1: somebody looks now
    shortName: 'sf-urgent'
  }
  {
    name: 'workday' // severity 2: the next working day
    shortName: 'sf-workday'
  }
]

resource group 'Microsoft.Insights/actionGroups@2023-01-01' = [
  for severity in severities: {
    name: 'ag-shelfcast-${severity.name}-${environmentName}'
    location: 'global'
    tags: tags
    properties: {
      enabled: true
      groupShortName: severity.shortName
      emailReceivers: [
        {
          name: 'team'
          emailAddress: alertEmail
          useCommonAlertSchema: true
        }
      ]
    }
  }
]

var platformAlerts = [
  {
    name: 'lake-availability'
    description: 'The lake answers fewer than 99 % of requests.'
    resourceId: lakeId
    metricNamespace: 'Microsoft.Storage/storageAccounts'
    metricName: 'Availability'
    operator: 'LessThan'
    threshold: 99
    timeAggregation: 'Average'
  }
  {
    name: 'factory-pipeline-failed'
    description: 'A Data Factory pipeline failed; its run names the step.'
    resourceId: factoryId
    metricNamespace: 'Microsoft.DataFactory/factories'
    metricName: 'PipelineFailedRuns'
    operator: 'GreaterThan'
    threshold: 0
    timeAggregation: 'Total'
  }
  {
    name: 'factory-trigger-failed'
    description: 'A Data Factory trigger failed to start its pipeline.'
    resourceId: factoryId
    metricNamespace: 'Microsoft.DataFactory/factories'
    metricName: 'TriggerFailedRuns'
    operator: 'GreaterThan'
    threshold: 0
    timeAggregation: 'Total'
  }
  {
    name: 'app-server-errors'
    description: 'The app answered 5xx more than five times in a quarter of an hour.'
    resourceId: functionAppId
    metricNamespace: 'Microsoft.Web/sites'
    metricName: 'Http5xx'
    operator: 'GreaterThan'
    threshold: 5
    timeAggregation: 'Total'
  }
]

resource platformAlert 'Microsoft.Insights/metricAlerts@2018-03-01' = [
  for item in platformAlerts: {
    name: 'shelfcast-${item.name}-${environmentName}'
    location: 'global'
    tags: tags
    properties: {
      description: item.description
      severity: 2
      enabled: true
      autoMitigate: true
      scopes: [
        item.resourceId
      ]
      evaluationFrequency: 'PT5M'
      windowSize: 'PT15M'
      criteria: {
        'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
        allOf: [
          {
            criterionType: 'StaticThresholdCriterion'
            name: item.name
            metricNamespace: item.metricNamespace
            metricName: item.metricName
            operator: item.operator
            threshold: item.threshold
            timeAggregation: item.timeAggregation
          }
        ]
      }
      actions: [
        {
          actionGroupId: group[1].id
        }
      ]
    }
  }
]

output urgentGroupId string = group[0].id
output workdayGroupId string = group[1].id
