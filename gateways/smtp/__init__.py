"""Speak SMTP."""
