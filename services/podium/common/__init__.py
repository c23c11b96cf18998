"""What all services share; this package knows no service."""
