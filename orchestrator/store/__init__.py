"""The database: tables, migrations, and operations by noun. SQL exists only here."""
