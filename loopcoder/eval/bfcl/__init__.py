"""Function calling (BFCL), scored by the leaderboard's own checker in an environment of its own."""
