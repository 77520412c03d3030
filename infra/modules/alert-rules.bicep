// Written by `python -m scripts.alert_rules` from infra/alerts/rules.json and its queries. Do not edit.

param environmentName string
param location string
param tags object
@description('Application Insights, whose events the rules read.')
param componentId string
param urgentGroupId string
param workdayGroupId string
@description('Page with a section a rule: what it means and what to do.')
param runbookUrl string

resource blobPoisoned 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-blob-poisoned-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: A landing file was set aside'
    description: 'A landing file failed five times and was set aside.'
    severity: 1
    enabled: true
    autoMitigate: false
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT1H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/blob_poisoned.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'source'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        urgentGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#blob_poisoned'
      }
    }
  }
}

resource drift 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-drift-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Input or forecast drift'
    description: 'Production data or forecasts left the band that training saw.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/drift.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'feature'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#drift'
      }
    }
  }
}

resource forecastOutOfRange 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-forecast-out-of-range-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Forecasts all zero'
    description: 'Segments whose forecasts are all zero, or nearly: by region.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/forecast_out_of_range.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'region'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#forecast_out_of_range'
      }
    }
  }
}

resource functionErrors 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-function-errors-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: The app answers with errors'
    description: 'The app answered with 5xx more than five times in a quarter of an hour.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/function_errors.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'operation_Name'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#function_errors'
      }
    }
  }
}

resource jobsHeldUp 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-jobs-held-up-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Azure ML holds jobs up'
    description: 'Azure ML refused quota, took a low-priority node away, or kept a job queued for over 30 minutes.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/jobs_held_up.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'cause'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#jobs_held_up'
      }
    }
  }
}

resource modelMapeHigh 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-model-mape-high-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Models above 45 % MAPE'
    description: 'Models above the mission\'s MAPE of 45 %, by region: candidates at the gate, production models by the watchdog.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT1H'
    windowSize: 'PT2H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/model_mape_high.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'region'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#model_mape_high'
      }
    }
  }
}

resource modelStale 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-model-stale-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Models older than 60 days'
    description: 'Production models older than the limit, by region: seen by the watchdog, or at scoring.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT1H'
    windowSize: 'PT2H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/model_stale.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'region'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#model_stale'
      }
    }
  }
}

resource modelWorseThanBaseline 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-model-worse-than-baseline-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Models worse than the history average'
    description: 'Production models that lost against the history average two weeks running, by region.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT1H'
    windowSize: 'PT2H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/model_worse_than_baseline.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'region'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#model_worse_than_baseline'
      }
    }
  }
}

resource quarantineShare 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-quarantine-share-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Over 1 % of a source in quarantine'
    description: 'More than 1 % of a source\'s records went to quarantine; a file counts once however often its event came.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/quarantine_share.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'source'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#quarantine_share'
      }
    }
  }
}

resource queueBacklog 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-queue-backlog-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Work waits or hangs'
    description: 'Work waits or hangs: old work items, orchestrations pending over 15 minutes or running over a day.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT2H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/queue_backlog.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'queue'
              operator: 'Include'
              values: [
                '*'
              ]
            }
            {
              name: 'cause'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#queue_backlog'
      }
    }
  }
}

resource runFailed 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-run-failed-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: A run failed'
    description: 'A run failed: nothing was published for its week.'
    severity: 1
    enabled: true
    autoMitigate: false
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT1H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/run_failed.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'run_kind'
              operator: 'Include'
              values: [
                '*'
              ]
            }
            {
              name: 'sales_week'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        urgentGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#run_failed'
      }
    }
  }
}

resource runOverdue 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-run-overdue-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: A run is late or missing'
    description: 'The watchdog found a run late or missing against its due time.'
    severity: 1
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT2H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/run_overdue.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'overdue_kind'
              operator: 'Include'
              values: [
                '*'
              ]
            }
            {
              name: 'due_week'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        urgentGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#run_overdue'
      }
    }
  }
}

resource sourceSchemaChanged 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-source-schema-changed-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: A source changed its schema'
    description: 'A source\'s file had columns that its contract does not know, or a file was refused whole.'
    severity: 2
    enabled: true
    autoMitigate: false
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/source_schema_changed.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'source'
              operator: 'Include'
              values: [
                '*'
              ]
            }
            {
              name: 'status'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#source_schema_changed'
      }
    }
  }
}

resource telemetryDropped 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-telemetry-dropped-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: Telemetry was lost'
    description: 'Telemetry was lost, as the app says in its log and, once the service takes anything again, with counts.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT15M'
    windowSize: 'PT1H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/telemetry_dropped.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: [
            {
              name: 'cloud_RoleInstance'
              operator: 'Include'
              values: [
                '*'
              ]
            }
          ]
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#telemetry_dropped'
      }
    }
  }
}

resource telemetrySilent 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = {
  name: 'shelfcast-telemetry-silent-${environmentName}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: 'Shelfcast: The watchdog is silent'
    description: 'The watchdog looks every hour. If it was not seen for three, nobody would tell of anything else.'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT30M'
    windowSize: 'PT3H'
    criteria: {
      allOf: [
        {
          query: loadTextContent('../alerts/telemetry_silent.kql')
          metricMeasureColumn: 'hits'
          timeAggregation: 'Total'
          operator: 'GreaterThan'
          threshold: 0
          dimensions: []
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        workdayGroupId
      ]
      customProperties: {
        runbook: '${runbookUrl}#telemetry_silent'
      }
    }
  }
}
