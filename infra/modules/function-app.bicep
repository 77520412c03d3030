// The function app: Flex Consumption, one always-ready instance for durable functions, no key of any storage account.

param name string
param location string
param tags object
param identityId string
param identityClientId string
param hostStorageName string
param packageContainer string
param lakeName string
param applicationInsightsConnection string
@description('For the links of the operators page.')
param applicationInsightsId string
param dataFactoryId string
param resultsUrl string
param workspaceName string
param computeName string
param entraClientId string
param codeVersion string
param choice object
@description('Empty = Durable Functions on Azure Storage.')
param schedulerEndpoint string
param hubName string
@description('Empty = no virtual network.')
param subnetId string
param logWorkspaceId string

var storageSuffix = environment().suffixes.storage

// What settings.py reads; tests/infra compares the two and local.settings.sample.json.
var productSettings = {
  LAKE__blobServiceUri: 'https://${lakeName}.blob.${storageSuffix}'
  SCENARIO_FILE: choice.scenarioFile
  ML_PLATFORM: 'azureml'
  DATA_DIR: '/tmp/shelfcast'
  RESULTS_URL: resultsUrl
  TELEMETRY_BACKEND: 'opencensus'
  APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsightsConnection
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'Authorization=AAD;ClientId=${identityClientId}'
  APPLICATIONINSIGHTS_RESOURCE_ID: applicationInsightsId
  DATA_FACTORY_RESOURCE_ID: dataFactoryId
  CODE_VERSION: codeVersion
  HTTP_AUTH: 'entra'
  TRAIN_EFFORT: choice.trainEffort
  MAX_JOBS_IN_FLIGHT: string(choice.maxJobsInFlight)
  POLL_FIRST_SECONDS: '15'
  POLL_LONGEST_SECONDS: '300'
  TRAIN_DEADLINE_MINUTES: '120'
  SCORE_DEADLINE_MINUTES: '60'
  MAX_FAILED_SHARE: '0.1'
  NODE_PRICE_PER_HOUR: choice.nodePricePerHour
  RUN_BUDGET: string(choice.runBudget)
  AML_SUBSCRIPTION_ID: subscription().subscriptionId
  AML_RESOURCE_GROUP: resourceGroup().name
  AML_WORKSPACE: workspaceName
  AML_COMPUTE: computeName
  ONLINE_ENDPOINT: 'shelfcast-online'
  BATCH_ENDPOINT: 'shelfcast-batch'
}

// What the Functions host, its extensions and the Azure SDK read.
var hostSettings = {
  AZURE_CLIENT_ID: identityClientId
  AzureWebJobsStorage__blobServiceUri: 'https://${hostStorageName}.blob.${storageSuffix}'
  AzureWebJobsStorage__queueServiceUri: 'https://${hostStorageName}.queue.${storageSuffix}'
  AzureWebJobsStorage__tableServiceUri: 'https://${hostStorageName}.table.${storageSuffix}'
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  LAKE__queueServiceUri: 'https://${lakeName}.queue.${storageSuffix}'
  LAKE__credential: 'managedidentity'
  LAKE__clientId: identityClientId
}

// Overrides of host.json: the same package runs on both durable backends.
var schedulerSettings = {
  AzureFunctionsJobHost__extensions__durableTask__hubName: hubName
  AzureFunctionsJobHost__extensions__durableTask__storageProvider__type: 'azureManaged'
  AzureFunctionsJobHost__extensions__durableTask__storageProvider__connectionStringName: 'DURABLE_TASK_SCHEDULER'
  DURABLE_TASK_SCHEDULER: 'Endpoint=${schedulerEndpoint};Authentication=ManagedIdentity;ClientID=${identityClientId}'
}

resource plan 'Microsoft.Web/serverfarms@2024-11-01' = {
  name: 'plan-${name}'
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
    zoneRedundant: choice.zoneRedundant
  }
}

resource app 'Microsoft.Web/sites@2024-11-01' = {
  name: name
  location: location
  tags: union(tags, {
    'azd-service-name': 'functions'
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identityId
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: 'https://${hostStorageName}.blob.${storageSuffix}/${packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.11'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: choice.instanceMemoryMB
        maximumInstanceCount: choice.maximumInstances
        alwaysReady: [
          {
            name: 'durable'
            instanceCount: choice.durableAlwaysReady
          }
        ]
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      // With a private network only Azure's own callers reach the app: Event Grid's deliveries, Data Factory, and
      // the ranges of the offices. Event Grid cannot deliver to a private endpoint.
      ipSecurityRestrictionsDefaultAction: empty(subnetId) ? 'Allow' : 'Deny'
      ipSecurityRestrictions: [
        for (caller, index) in (empty(subnetId) ? [] : concat(['AzureEventGrid', 'DataFactory', 'AzureCloud.${location}'], choice.officeRanges)): {
          name: 'caller-${index}'
          action: 'Allow'
          priority: 100 + index
          tag: contains(caller, '/') ? 'Default' : 'ServiceTag'
          ipAddress: caller
        }
      ]
    }
  }

  resource settings 'config' = {
    name: 'appsettings'
    properties: union(productSettings, hostSettings, empty(schedulerEndpoint) ? {} : schedulerSettings)
  }

  resource signIn 'config' = {
    name: 'authsettingsV2'
    properties: {
      platform: {
        enabled: true
      }
      globalValidation: {
        requireAuthentication: true
        unauthenticatedClientAction: 'Return401'
        // The page's files hold no data; webhooks are guarded by the host's system keys.
        excludedPaths: [
          '/api/health'
          '/api/openapi.json'
          '/api/ops'
          '/api/ops/*'
          '/runtime/webhooks/*'
        ]
      }
      httpSettings: {
        requireHttps: true
      }
      login: {
        tokenStore: {
          enabled: false
        }
      }
      identityProviders: {
        azureActiveDirectory: {
          enabled: true
          registration: {
            clientId: entraClientId
            openIdIssuer: '${environment().authentication.loginEndpoint}${tenant().tenantId}/v2.0'
          }
          validation: {
            allowedAudiences: [
              'api://${entraClientId}'
              entraClientId
            ]
          }
        }
      }
    }
  }

  resource noBasicPublishing 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }

  resource noFtp 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-log-analytics'
  scope: app
  properties: {
    workspaceId: logWorkspaceId
    logs: [
      {
        category: 'AppServiceAuthenticationLogs'
        enabled: true
      }
    ]
  }
}

output id string = app.id
output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
