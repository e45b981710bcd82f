"""Whether an answer is right. The candidate runs where it sees neither tests nor answers."""
