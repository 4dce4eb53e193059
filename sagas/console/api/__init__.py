"""The console's REST API: what operators read and do over HTTP. It needs `api`; it may be left out."""
