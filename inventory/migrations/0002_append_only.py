"""The stock book is only ever appended to: the database itself refuses to change or delete a line of it."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("inventory", "0001_first")]

    operations = [
        migrations.RunSQL(
            sql="""
            CREATE FUNCTION inventory_movement_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'movements of stock are append-only: % is refused', TG_OP
                    USING ERRCODE = 'restrict_violation';
            END $$;
            CREATE TRIGGER inventory_movement_append_only BEFORE UPDATE OR DELETE ON inventory_movement
                FOR EACH ROW EXECUTE FUNCTION inventory_movement_is_append_only();
            """,
            reverse_sql="""
            DROP TRIGGER inventory_movement_append_only ON inventory_movement;
            DROP FUNCTION inventory_movement_is_append_only();
            """,
        ),
    ]
