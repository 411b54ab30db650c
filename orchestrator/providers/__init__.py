"""One package per vendor of agents, behind one contract; vendor SDKs are imported only here."""
