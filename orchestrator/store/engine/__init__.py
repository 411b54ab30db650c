"""How the database is opened, written in groups, read, migrated and watched for lost history."""
