"""What starts pipelines: schedules, tumbling windows, storage events."""
