"""One module per vendor of agents; vendor SDKs are imported here and nowhere else."""
