"""From the answers of models to decisions about nodules."""
