"""Durable orchestrators, their activities and the operators' HTTP routes."""
