"""What agents work in and what they changed there; facts come from git, and fleet records them."""
