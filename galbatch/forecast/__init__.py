"""What a job will take: rates of its stages, and what follows from them."""
