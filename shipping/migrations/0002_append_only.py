"""Tracking is only ever appended to: the database itself refuses to change or delete a line of it."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shipping", "0001_first")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION shipping_trackingevent_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'tracking of shipments is append-only: % is refused', TG_OP
                    USING ERRCODE = 'restrict_violation';
            END $$;
            CREATE TRIGGER shipping_trackingevent_append_only BEFORE UPDATE OR DELETE ON shipping_trackingevent
                FOR EACH ROW EXECUTE FUNCTION shipping_trackingevent_is_append_only();
            """,
            reverse_sql="""
            DROP TRIGGER shipping_trackingevent_append_only ON shipping_trackingevent;
            DROP FUNCTION shipping_trackingevent_is_append_only();
            """,
        ),
    ]
