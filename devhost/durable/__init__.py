"""The durable task hub: storage, replay, entities, management routes."""
