"""What every REST API of this project shares; it knows none of them.

Tokens and their scopes, throttles, idempotency keys; JSON in and out; forms, shapes and pages; problems (RFC
9457); the description (OpenAPI) and the pages that show it.
"""
