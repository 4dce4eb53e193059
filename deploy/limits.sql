-- Limits of the role that the project connects as. They cannot travel with a connection through a pooler that shares
-- connections between transactions, so they are the role's own; see docs/configuration.md. Run once, as its owner.
ALTER ROLE saga SET lock_timeout = '2s';
ALTER ROLE saga SET statement_timeout = '60s';
ALTER ROLE saga SET idle_in_transaction_session_timeout = '30s';
