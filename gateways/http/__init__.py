"""Speak HTTP: JMAP, WebSocket push, health and metrics."""
