// One template for every environment: what differs between dev, staging and prod is in environments/*.json and
// nowhere else. `azd up` or `az deployment sub create` deploys it; README: docs/deployment.md.
targetScope = 'subscription'

@minLength(1)
@maxLength(20)
@description('Name of the environment; part of every resource name.')
param environmentName string

@description('Which of environments/*.json applies.')
@allowed([
  'dev'
  'staging'
  'prod'
])
param environmentType string

@minLength(1)
@description('Azure region of every resource.')
param location string

@description('Object id of the group that owns the SQL database and reads the vault (Entra ID).')
param administratorsGroupId string

@description('Name of that group.')
param administratorsGroupName string

@description('Client id of the app registration that callers sign in to (scripts/entra_app.sh makes it).')
param entraClientId string

@description('Where alerts and budget warnings go.')
param alertEmail string

@description('Commit of the deployed code; goes into the identity of every run.')
param codeVersion string = 'unversioned'

@description('Where docs/runbooks.md is published; alerts link to its sections.')
param runbookUrl string = 'https://github.com/shelfcast/shelfcast/blob/main/docs/runbooks.md'

@description('First day of the budget, the first of a month. Azure refuses another day.')
param budgetStart string = utcNow('yyyy-MM-01')

var choices = {
  dev: loadJsonContent('environments/dev.json')
  staging: loadJsonContent('environments/staging.json')
  prod: loadJsonContent('environments/prod.json')
}
var choice = choices[environmentType]
var token = toLower(uniqueString(subscription().id, environmentName, location))
var tags = {
  'azd-env-name': environmentName
  product: 'shelfcast'
  environment: environmentType
}

resource group 'Microsoft.Resources/resourceGroups@2024-11-01' = {
  name: 'rg-shelfcast-${environmentName}'
  location: location
  tags: tags
}

module product 'product.bicep' = {
  scope: group
  params: {
    environmentName: environmentName
    location: location
    token: token
    tags: tags
    choice: choice
    administratorsGroupId: administratorsGroupId
    administratorsGroupName: administratorsGroupName
    entraClientId: entraClientId
    alertEmail: alertEmail
    codeVersion: codeVersion
    budgetStart: budgetStart
    runbookUrl: runbookUrl
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output AZURE_LOCATION string = location
output SHELFCAST_ENVIRONMENT string = environmentType
output FUNCTION_APP_NAME string = product.outputs.functionAppName
output FUNCTION_APP_URL string = product.outputs.functionAppUrl
output FUNCTIONS_AUDIENCE string = product.outputs.functionsAudience
output LAKE_ACCOUNT_ID string = product.outputs.lakeAccountId
output LANDING_TOPIC_NAME string = product.outputs.landingTopicName
output DATA_FACTORY_NAME string = product.outputs.dataFactoryName
output DATA_FACTORY_PRINCIPAL_ID string = product.outputs.dataFactoryPrincipalId
output APP_IDENTITY_NAME string = product.outputs.appIdentityName
output AML_WORKSPACE string = product.outputs.workspaceName
output AML_COMPUTE string = product.outputs.computeName
output SQL_SERVER_HOST string = product.outputs.sqlServerHost
output SQL_DATABASE string = product.outputs.sqlDatabaseName
