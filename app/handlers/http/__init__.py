"""Handler `http`: posts events to a receiver, signed as Standard Webhooks, as CloudEvents or plain JSON."""
