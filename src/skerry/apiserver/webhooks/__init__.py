"""Calls from the API server to webhooks: admission and conversion; and the policies that need no webhook."""
