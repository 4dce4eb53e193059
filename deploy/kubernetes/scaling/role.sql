-- The role that KEDA counts with: it reads the states of sagas and steps, and nothing of what they are about.
CREATE ROLE saga_scaling LOGIN CONNECTION LIMIT 20;
ALTER ROLE saga_scaling SET default_transaction_read_only = on;
ALTER ROLE saga_scaling SET statement_timeout = '5s';
GRANT SELECT (id, name, version, state, position, wake_at, dispatched_at, in_line_for, parked_for, held_at)
    ON sagas_saga TO saga_scaling;
GRANT SELECT (saga_id, position, name, epoch, wake_at, dispatched_at, lease_until, parked_for)
    ON sagas_step TO saga_scaling;
-- Then give it a password: \password saga_scaling
