"""The truth: tables, migrations, and one module of operations per noun. SQL lives here and nowhere else."""
