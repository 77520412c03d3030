// Events of the lake. The subscriptions to the app's functions follow after the app is deployed
// (scripts/event_subscriptions.py), because Event Grid asks the app for a handshake.

param name string
param location string
param tags object
param sourceId string

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: name
  location: location
  tags: tags
  identity: {
    type: 'SystemAssigned'
  }
  properties: {
    source: sourceId
    topicType: 'Microsoft.Storage.StorageAccounts'
  }
}

output name string = topic.name
