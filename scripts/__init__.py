"""What operators, pipelines and the Makefile call; nothing here is deployed."""
