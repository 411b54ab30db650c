"""What agents are given and leave behind: git facts are computed here; rows are written by fleet."""
