"""The database's tables and their migrations; shared by the services, owned by none of them."""
