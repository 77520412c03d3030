// The operations workbook of Azure Monitor, over the same events as the alerts.

param location string
param tags object
@description('Application Insights, whose events the workbook shows.')
param componentId string

resource operations 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, 'shelfcast-operations')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Shelfcast operations'
    category: 'workbook'
    version: 'Notebook/1.0'
    sourceId: componentId
    serializedData: loadTextContent('../workbook/operations.workbook')
  }
}
