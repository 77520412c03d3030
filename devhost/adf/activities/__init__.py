"""What executes each modelled activity type."""
