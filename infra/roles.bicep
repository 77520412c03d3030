// Built-in role definitions that the product assigns, by their ids. Nothing here may write more than its name says.

@export()
var roles = {
  storageBlobDataOwner: 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b'
  storageBlobDataContributor: 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
  storageBlobDataReader: '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
  storageQueueDataContributor: '974c5e8b-45b9-4653-ba55-5f855dd0fb88'
  storageTableDataContributor: '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3'
  monitoringMetricsPublisher: '3913510d-42f4-4e42-8a64-420c390055eb'
  keyVaultSecretsUser: '4633458b-17de-408a-b874-0445c86b69e6'
  keyVaultSecretsOfficer: 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7'
  machineLearningDataScientist: 'f6c7c914-8db3-469d-8ca1-694a8f32e121'
  durableTaskDataContributor: '0ad04412-c4d5-4796-b79c-f76d14c8d402'
  registryPull: '7f951dda-4ed3-4680-a7ca-43fe172d538d'
  eventGridContributor: '1e241071-0855-49ea-94dc-649edcd759de'
}

@export()
@description('Who gets which role on the resource of a module.')
type assignment = {
  principalId: string
  roleId: string
  principalType: 'ServicePrincipal' | 'User' | 'Group'
}
