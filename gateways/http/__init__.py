"""The HTTP gateway: JMAP, blobs, WebSocket push, health and metrics, over HTTPS and HTTP."""
