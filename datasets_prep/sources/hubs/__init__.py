"""Sources that Hugging Face `datasets` opens."""
