"""What `doctor` checks: the settings, the tenant, the sign-in of Swagger UI, and a token."""
