"""Webhooks: senders post to one path of ours."""
